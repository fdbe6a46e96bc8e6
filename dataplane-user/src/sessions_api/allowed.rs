//! Who may use a service's sessions.

use crate::config::{Account, Config};
use nix::unistd::{Gid, Group, User};
use std::{
    collections::{HashMap, HashSet},
    io,
};
use thiserror::Error;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A user of this system, by the kernel's word.
    User(u32),
    /// Somebody with a certificate that one of `client_authorities` has signed.
    Certified,
}

/// A user or group that there is not.
#[derive(Debug, Error)]
pub enum NoAccount {
    /// The system knows no such name.
    #[error("there is no {kind} {name:?} on this system; create it, or write its number")]
    Unknown {
        /// "user" or "group".
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// It could not be asked.
    #[error("looking up {kind} {name:?} failed")]
    LookUp {
        /// "user" or "group".
        kind: &'static str,
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The services, and which users each is restricted to.
#[derive(Debug)]
pub(super) struct Allowed(HashMap<String, Option<HashSet<u32>>>);

impl Allowed {
    /// Those of a configuration.
    pub(super) fn new(config: &Config) -> Result<Self, NoAccount> {
        let services = config.services.iter().map(|service| {
            let users = service.users.as_ref();
            let users = users.map(|users| users.iter().map(user).collect::<Result<_, _>>());
            Ok((service.name.clone(), users.transpose()?))
        });
        Ok(Self(services.collect::<Result<_, _>>()?))
    }

    /// Whether there is such a service.
    pub(super) fn knows(&self, service: &str) -> bool {
        self.0.contains_key(service)
    }

    /// Whether somebody may use a service.
    pub(super) fn allows(&self, caller: Caller, service: &str) -> bool {
        match (self.0.get(service), caller) {
            (None, _) | (Some(Some(_)), Caller::Certified) => false,
            (Some(None), _) | (Some(Some(_)), Caller::User(0)) => true,
            (Some(Some(users)), Caller::User(user)) => users.contains(&user),
        }
    }
}

fn user(account: &Account) -> Result<u32, NoAccount> {
    match account {
        Account::Id(id) => Ok(*id),
        Account::Name(name) => {
            found("user", name, User::from_name(name)).map(|user| user.uid.as_raw())
        }
    }
}

/// The group that owns the socket.
pub(super) fn group(account: &Account) -> Result<Gid, NoAccount> {
    match account {
        Account::Id(id) => Ok(Gid::from_raw(*id)),
        Account::Name(name) => found("group", name, Group::from_name(name)).map(|group| group.gid),
    }
}

fn found<T>(
    kind: &'static str,
    name: &str,
    looked: nix::Result<Option<T>>,
) -> Result<T, NoAccount> {
    let name = || name.to_owned();
    match looked {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(NoAccount::Unknown { kind, name: name() }),
        Err(errno) => Err(NoAccount::LookUp { kind, name: name(), source: errno.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_with_users_is_for_them_and_root() {
        let users = HashSet::from([7, 8]);
        let allowed =
            Allowed([("open".to_owned(), None), ("theirs".to_owned(), Some(users))].into());
        for (caller, open, theirs) in [
            (Caller::User(0), true, true),
            (Caller::User(7), true, true),
            (Caller::User(9), true, false),
            (Caller::Certified, true, false),
        ] {
            assert_eq!(allowed.allows(caller, "open"), open, "{caller:?}");
            assert_eq!(allowed.allows(caller, "theirs"), theirs, "{caller:?}");
            assert!(!allowed.allows(caller, "none"), "{caller:?}");
        }
    }

    #[test]
    fn names_are_looked_up() {
        assert_eq!(user(&Account::Name("root".to_owned())).expect("there is root"), 0);
        let error = user(&Account::Name("no-such-user".to_owned())).expect_err("there is none");
        assert!(error.to_string().starts_with("there is no user \"no-such-user\""), "{error}");
        let error = group(&Account::Name("no-such-group".to_owned())).expect_err("there is none");
        assert!(error.to_string().starts_with("there is no group"), "{error}");
    }
}
