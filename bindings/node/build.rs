//! Links for Node.

fn main() {
    napi_build::setup();
}
