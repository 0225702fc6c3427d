//! Routes: the calls that a function answers, as an enum.

/// The routes of a function, one variant for each call.
///
/// `infra/local` tests the keys against template.yaml, and the suite tests them against the description of the API.
pub trait Route: Copy + Send + Sized + 'static {
    /// Each route with its key, as API Gateway sends it: `GET /v1/catalog`.
    const KEYS: &'static [(&'static str, Self)];

    /// Returns the route with this key.
    #[must_use]
    fn of(key: &str) -> Option<Self> {
        Self::KEYS.iter().find(|(known, _)| *known == key).map(|(_, route)| *route)
    }

    /// Returns whether the route has query parameters, which its handler reads with [`crate::query::read`]. Every
    /// parameter of another `/v1/` route is refused.
    #[must_use]
    fn has_query(self) -> bool {
        false
    }
}
