use super::builder::Config;

/// What holds for all that a builder is not told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) issuer: Option<&'static str>,
    pub(crate) token_url: Option<&'static str>,
    pub(crate) audience: Option<&'static str>,
    pub(crate) resource: Option<&'static str>,
    pub(crate) scope: Option<&'static str>,
    pub(crate) base_url: Option<&'static str>,
    pub(crate) user_agent: Option<&'static str>,
}

impl Defaults {
    pub(crate) const NONE: Self = Self {
        issuer: None,
        token_url: None,
        audience: None,
        resource: None,
        scope: None,
        base_url: None,
        user_agent: None,
    };
}

impl Config {
    /// Puts the defaults where nothing else was set, at the end, so that the order of the setters does not matter. Done
    /// twice, it does the same.
    pub(crate) fn fill(&mut self) {
        let Defaults { issuer, token_url, audience, resource, scope, base_url, user_agent } = self.defaults;
        let or = |set: Option<String>, default: Option<&str>| set.or_else(|| default.map(str::to_owned));
        // What a default says is no variable's mistake.
        let server = self.issuer.is_none() && self.token_url.is_none();
        for (option, used) in [
            ("issuer", server && issuer.is_some()),
            ("token_url", server && token_url.is_some()),
            ("audience", self.request.audience.is_none() && audience.is_some()),
            ("resource", self.request.resources.is_empty() && resource.is_some()),
            ("scope", self.request.scopes.is_empty() && scope.is_some()),
            ("base_url", self.base_url.is_none() && base_url.is_some()),
        ] {
            if used {
                self.replaces(option);
            }
        }
        // One says where, and the other would contradict it.
        if self.issuer.is_none() && self.token_url.is_none() {
            (self.issuer, self.token_url) = (or(None, issuer), or(None, token_url));
        }
        self.request.audience = or(self.request.audience.take(), audience);
        if self.request.resources.is_empty() {
            self.request.resources.extend(or(None, resource));
        }
        if self.request.scopes.is_empty() {
            self.request.scopes.extend(or(None, scope));
        }
        self.base_url = or(self.base_url.take(), base_url);
        self.user_agent = or(self.user_agent.take(), user_agent);
    }
}
