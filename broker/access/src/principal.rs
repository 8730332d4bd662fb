//! Who a Client turned out to be, and what it may do.

use std::fmt;
use std::sync::Arc;

use bucketmq_packet::AcknowledgeLevel;

use crate::authentication::{AuthenticationMethod, User};
use crate::authorization::{RoleSet, Rules};

/// Who a Client is. One is kept for each Network Connection, so it is small and shares what it can: the user with the users file,
/// and the rules with all principals of the same roles if no rule on topics has a placeholder.
#[derive(Clone)]
pub struct Principal {
    pub(crate) origin: Origin,
    /// For placeholders and rules on connect, when roles change.
    pub(crate) client_id: Arc<str>,
    pub(crate) rules: Arc<Rules>,
}

#[derive(Clone)]
pub(crate) enum Origin {
    Anonymous(Arc<AnonymousRole>),
    User { user: Arc<User>, method: AuthenticationMethod },
}

/// A role as a listener names it.
#[derive(Debug)]
pub(crate) struct AnonymousRole {
    pub(crate) name: Box<str>,
    pub(crate) roles: Arc<RoleSet>,
}

impl Origin {
    pub(crate) fn username(&self) -> Option<&str> {
        match self {
            Self::Anonymous(_) => None,
            Self::User { user, .. } => Some(&user.name),
        }
    }

    pub(crate) fn method(&self) -> AuthenticationMethod {
        match self {
            Self::Anonymous(_) => AuthenticationMethod::Anonymous,
            Self::User { method, .. } => *method,
        }
    }

    pub(crate) fn roles(&self) -> &RoleSet {
        match self {
            Self::Anonymous(role) => &role.roles,
            Self::User { user, .. } => &user.roles,
        }
    }
}

impl Principal {
    /// The name of the user or certificate; an anonymous Client has none, whatever it wrote into CONNECT.
    pub fn username(&self) -> Option<&str> {
        self.origin.username()
    }

    /// How the Client said who it is.
    pub fn method(&self) -> AuthenticationMethod {
        self.origin.method()
    }

    /// Of which [`Access::generation`](crate::Access::generation) this is. If that is another,
    /// [`Access::refresh`](crate::Access::refresh) tells what became of this principal.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.rules.generation
    }

    /// When its acknowledgements leave, if its roles say so.
    pub fn acknowledge(&self) -> Option<AcknowledgeLevel> {
        self.origin.roles().acknowledge
    }

    /// Whether the Client may publish to this Topic Name, also as a Will Message.
    #[inline]
    pub fn may_publish(&self, topic_name: &str) -> bool {
        self.rules.may_publish(topic_name)
    }

    /// Whether the Client may make this Subscription. `topic_filter` is what stands behind `$share/NAME/` in a shared one.
    pub fn may_subscribe(&self, topic_filter: &str) -> bool {
        self.rules.may_subscribe(topic_filter)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("username", &self.username())
            .field("method", &self.method())
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_small() {
        assert!(size_of::<Principal>() <= 40, "{}", size_of::<Principal>());
    }
}
