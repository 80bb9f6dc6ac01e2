//! The word by which JavaScript knows that what it holds is still what there is to hold. Its memory is Rust's, behind an
//! external `ArrayBuffer`: JavaScript reads it with `Atomics.load`, and nobody ever writes into memory of JavaScript's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use napi::Env;
use napi::bindgen_prelude::{ArrayBuffer, Result};

#[derive(Clone, Default)]
pub struct Word(Arc<AtomicI32>);

impl Word {
    pub fn load(&self) -> i32 {
        self.0.load(Ordering::Acquire)
    }

    /// From now on, whoever reads asks again.
    pub fn bump(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// The word as JavaScript may read it, for as long as the buffer lives; `None` where there are no external buffers
    /// (Electron), so that it must be asked for.
    #[allow(unsafe_code)]
    pub fn shared(&self, env: &Env) -> Result<Option<ArrayBuffer<'static>>> {
        let memory = self.0.as_ptr().cast::<u8>();
        // SAFETY: the memory is that of the atomic, four bytes which `Arc` keeps until the finalizer drops it. Rust touches
        // them atomically only; so does JavaScript, which gets no other view of them.
        let buffer = unsafe {
            ArrayBuffer::from_external(env, memory, size_of::<AtomicI32>(), self.0.clone(), |_, word| {
                drop(word)
            })?
        };
        // Where external buffers are refused, it is a copy, which would never change.
        Ok((buffer.as_ptr() == memory).then_some(buffer))
    }
}
