//! What an operator may do: roles, and who has which (`--control-allow`).
//!
//! Read by `portcullis` from its flags, asked by `api.rs` for every request. Roles add up, nothing implies another. It
//! must never give a role to somebody whom no grant names.

use trust::{Identity, IdentityPattern};

/// Something an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Look: the state, what is in force, who would be cut.
    Read,
    /// Add denials to the overlay and take them back.
    Deny,
    /// Publish lists and CRLs, confirm what is held, reset floors.
    Push,
    /// End single sessions.
    End,
}

impl Role {
    /// Every one.
    pub const ALL: [Role; 4] = [Role::Read, Role::Deny, Role::Push, Role::End];

    /// As the flag spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Deny => "deny",
            Role::Push => "push",
            Role::End => "end",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Role::Read => 1,
            Role::Deny => 2,
            Role::Push => 4,
            Role::End => 8,
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// All of them.
    #[must_use]
    pub fn all() -> Roles {
        Role::ALL.into_iter().fold(Roles::default(), Roles::with)
    }

    /// And this one.
    #[must_use]
    pub fn with(self, role: Role) -> Roles {
        Roles(self.0 | role.bit())
    }

    /// Whether one of `needed` is among them.
    #[must_use]
    pub fn has_one_of(self, needed: &[Role]) -> bool {
        needed.iter().any(|role| self.0 & role.bit() != 0)
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> =
            Role::ALL.iter().filter(|role| self.has_one_of(&[**role])).map(|role| role.name()).collect();
        f.write_str(if names.is_empty() { "none".to_owned() } else { names.join(", ") }.as_str())
    }
}

/// Whoever fits the pattern has the roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub pattern: IdentityPattern,
    /// Which.
    pub roles: Roles,
}

impl Grant {
    /// Reads `IDENTITY=ROLE`, or several roles with commas between; an error completes "--control-allow … : ".
    pub fn parse(text: &str) -> Result<Grant, String> {
        // A subject has '=' of its own: the last one counts.
        let (identity, roles) =
            text.rsplit_once('=').ok_or("no role is given; write IDENTITY=ROLE, like uri:spiffe://td/ops=push")?;
        let pattern = IdentityPattern::parse(identity).map_err(|why| why.to_string())?;
        let mut granted = Roles::default();
        for name in roles.split(',') {
            let role = Role::ALL.into_iter().find(|role| role.name() == name);
            granted = granted.with(role.ok_or_else(|| format!("{name:?} is no role; choose read, deny, push or end"))?);
        }
        Ok(Grant { pattern, roles: granted })
    }
}

/// Every role that one of `grants` gives to `identity`.
pub(crate) fn roles_of(identity: &Identity, grants: &[Grant]) -> Roles {
    let fitting = grants.iter().filter(|grant| grant.pattern.matches(identity));
    fitting.fold(Roles::default(), |roles, grant| Roles(roles.0 | grant.roles.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn roles_of_several_grants_add_up_and_nothing_is_implied() {
        let grants = ["uri:spiffe://td/ops/*=read", "uri:spiffe://td/ops/anna=push,deny", "dns:other.test=end"];
        let grants: Vec<Grant> = grants.iter().map(|text| Grant::parse(text).unwrap()).collect();
        let roles = |uri: &str| roles_of(&Identity::from_spiffe(uri).unwrap(), &grants);
        assert_eq!(roles("spiffe://td/ops/anna").to_string(), "read, deny, push");
        assert_eq!(roles("spiffe://td/ops/bert").to_string(), "read");
        assert_eq!(roles("spiffe://td/ops"), Roles::default());
        assert_eq!(roles_of(&Identity::from_spiffe("spiffe://td/ops/anna").unwrap(), &[]).to_string(), "none");
        assert!(!Roles::default().with(Role::Push).has_one_of(&[Role::Read, Role::Deny, Role::End]));
        assert_eq!(Roles::all().to_string(), "read, deny, push, end");
    }

    #[test]
    fn a_grant_without_a_role_or_with_an_unknown_one_is_refused() {
        assert_eq!(Grant::parse("subject:CN=anna,O=ops=read").unwrap().roles, Roles::default().with(Role::Read));
        for bad in ["", "read", "uri:spiffe://td/a", "uri:spiffe://td/a=", "uri:spiffe://td/a=Read", "=read"] {
            assert!(Grant::parse(bad).is_err(), "{bad}");
        }
        for bad in ["dns:a.test=read,", "dns:a.test=read|push", "dns:a.test=read, push", "a.test=read"] {
            assert!(Grant::parse(bad).is_err(), "{bad}");
        }
    }
}
