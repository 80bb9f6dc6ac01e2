//! The box signs a token, and its API verifies it, where jsonwebtoken has two crypto providers to choose from.

#[cfg(test)]
mod tests {
    use evertoken::Client;
    use evertoken::testing::AuthServer;

    #[tokio::test]
    async fn the_box_signs_and_verifies() {
        let server = AuthServer::start().await.unwrap();
        let client = Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
            .token_url(server.token_url())
            .base_url(server.api_url())
            .build()
            .unwrap();
        let answer = client.get("orders").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    #[test]
    fn the_other_provider_is_really_there() {
        let ambiguous = std::panic::catch_unwind(|| {
            let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
            jsonwebtoken::encode(&jsonwebtoken::Header::default(), &(), &key)
        });
        assert!(
            ambiguous.is_err(),
            "jsonwebtoken now chooses by itself: this package has nothing left to test"
        );
    }
}
