//! The endpoints of the stand-in.

/// An endpoint, with the ids in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint<'a> {
    CreateSession,
    ListSessions,
    ReadSession(&'a str),
    ExpireSession(&'a str),
    CreateIntent,
    ListIntents,
    ReadIntent(&'a str),
    ReadCustomer(&'a str),
    DeleteCustomer(&'a str),
    ListCustomerMethods(&'a str),
    ReadCustomerMethod { customer: &'a str, method: &'a str },
    ReadMethod(&'a str),
    DetachMethod(&'a str),
    CreateRefund,
    ListRefunds,
    ReadRefund(&'a str),
}

impl<'a> Endpoint<'a> {
    /// Returns the endpoint for a method and a path.
    pub fn of(method: &str, path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        Some(match (method, parts.as_slice()) {
            ("POST", ["checkout", "sessions"]) => Self::CreateSession,
            ("GET", ["checkout", "sessions"]) => Self::ListSessions,
            ("GET", ["checkout", "sessions", id]) => Self::ReadSession(id),
            ("POST", ["checkout", "sessions", id, "expire"]) => Self::ExpireSession(id),
            ("POST", ["payment_intents"]) => Self::CreateIntent,
            ("GET", ["payment_intents"]) => Self::ListIntents,
            ("GET", ["payment_intents", id]) => Self::ReadIntent(id),
            ("GET", ["customers", id]) => Self::ReadCustomer(id),
            ("DELETE", ["customers", id]) => Self::DeleteCustomer(id),
            ("GET", ["customers", id, "payment_methods"]) => Self::ListCustomerMethods(id),
            ("GET", ["customers", customer, "payment_methods", method]) => {
                Self::ReadCustomerMethod { customer, method }
            }
            ("GET", ["payment_methods", id]) => Self::ReadMethod(id),
            ("POST", ["payment_methods", id, "detach"]) => Self::DetachMethod(id),
            ("POST", ["refunds"]) => Self::CreateRefund,
            ("GET", ["refunds"]) => Self::ListRefunds,
            ("GET", ["refunds", id]) => Self::ReadRefund(id),
            _ => return None,
        })
    }

    /// Returns whether the stack's operator may use the endpoint without naming a version: reads, and changes that a
    /// payer makes.
    pub fn is_operators(self) -> bool {
        !matches!(
            self,
            Self::CreateSession | Self::ExpireSession(_) | Self::CreateIntent | Self::CreateRefund
        )
    }
}
