//! The extensions of a CRL (RFC 5280 §5.2): its number, its scope, its key, and what keeps it from being read.
//!
//! Called by `crl.rs`. An extension that changes the meaning of the entries is never skipped: it becomes an
//! [`Obstacle`], and the issuer's status unknown.

use std::cmp::Ordering;

use trust::{CrlScope, Sha256};

use crate::Obstacle;
use crate::crl::compare_numbers;
use crate::der::{BOOLEAN, DerFlaw, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, truth};

/// RFC 5280 defines seven; more than this many is no CRL that anybody issues.
const MAX_EXTENSIONS: usize = 32;
/// RFC 5280 §5.2.3: a CRLNumber has at most 20 octets.
const MAX_NUMBER: usize = 20;

/// What the extensions say.
#[derive(Debug)]
pub(crate) struct Extensions {
    /// Without leading zeros; empty if there is none.
    pub(crate) number: Box<[u8]>,
    /// Whether there is a number: zero is one, too.
    pub(crate) numbered: bool,
    /// BaseCRLNumber of a delta CRL.
    pub(crate) base: Option<Box<[u8]>>,
    pub(crate) key_id: Option<Box<[u8]>>,
    pub(crate) scope: CrlScope,
    /// Tells scopes apart that [`CrlScope`] does not: other names than URIs, and which reasons.
    pub(crate) scope_id: Sha256,
    pub(crate) obstacle: Option<Obstacle>,
}

impl Default for Extensions {
    fn default() -> Extensions {
        Extensions {
            number: Box::default(),
            numbered: false,
            base: None,
            key_id: None,
            scope_id: scope_id(&CrlScope::FULL, &[]),
            scope: CrlScope::FULL,
            obstacle: None,
        }
    }
}

/// One extension, unpacked.
pub(crate) struct Extension<'a> {
    /// Content of its OBJECT IDENTIFIER.
    pub(crate) oid: &'a [u8],
    pub(crate) critical: bool,
    /// Its OCTET STRING.
    pub(crate) value: Element<'a>,
}

/// Unpacks one extension.
pub(crate) fn unpack<'a>(element: &Element<'a>) -> Result<Extension<'a>, DerFlaw> {
    let mut parts = element.walk();
    let oid = parts.require(OBJECT_IDENTIFIER, "an extension has no identifier")?;
    let critical = parts.optional(BOOLEAN)?.map_or(Ok(false), |flag| truth(&flag))?;
    let value = parts.require(OCTET_STRING, "an extension has no value")?;
    parts.end("there is something after an extension's value")?;
    Ok(Extension { oid: oid.content, critical, value })
}

/// Reads `crlExtensions`, the element with tag [0].
pub(crate) fn read(element: &Element<'_>) -> Result<Extensions, DerFlaw> {
    let mut outer = element.walk();
    let sequence = outer.require(SEQUENCE, "the extensions are no SEQUENCE")?;
    outer.end("there is something after the extensions")?;
    let mut found = Extensions::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut walk = sequence.walk();
    while !walk.is_done() {
        let element = walk.require(SEQUENCE, "an extension is no SEQUENCE")?;
        let extension = unpack(&element)?;
        // RFC 5280 §4.2: at most one of each; of two the reader would have to choose.
        if seen.contains(&extension.oid) {
            return Err(element.flaw("an extension stands there twice"));
        }
        if seen.len() == MAX_EXTENSIONS {
            return Err(element.flaw("there are more than 32 extensions"));
        }
        seen.push(extension.oid);
        take(&mut found, &extension)?;
    }
    if let Some(base) = &found.base {
        // RFC 5280 §5.2.4: it is the later one, in the same count. One of its base's own number adds nothing.
        if !found.numbered || compare_numbers(&found.number, base) == Ordering::Less {
            return Err(sequence.flaw("a delta CRL has no CRLNumber, or one lower than its BaseCRLNumber"));
        }
    }
    Ok(found)
}

fn take(found: &mut Extensions, extension: &Extension<'_>) -> Result<(), DerFlaw> {
    let obstacle = match extension.oid {
        // cRLNumber, 2.5.29.20
        [0x55, 0x1d, 0x14] => {
            found.number = number(&extension.value)?;
            found.numbered = true;
            None
        }
        // issuingDistributionPoint, 2.5.29.28
        [0x55, 0x1d, 0x1c] => {
            let (scope, scope_id, indirect) = distribution_point(&extension.value)?;
            (found.scope, found.scope_id) = (scope, scope_id);
            indirect.then_some(Obstacle::Indirect)
        }
        // deltaCRLIndicator, 2.5.29.27
        [0x55, 0x1d, 0x1b] => {
            if !extension.critical {
                return Err(extension.value.flaw("deltaCRLIndicator is not critical"));
            }
            found.base = Some(number(&extension.value)?);
            None
        }
        // freshestCRL, 2.5.29.46: where delta CRLs are. What is fetched is the operator's choice.
        [0x55, 0x1d, 0x2e] => None,
        // authorityKeyIdentifier, 2.5.29.35
        [0x55, 0x1d, 0x23] => {
            found.key_id = key_id(&extension.value)?;
            None
        }
        oid => extension.critical.then(|| Obstacle::CriticalExtension(crate::outcome::oid_text(oid))),
    };
    found.obstacle = found.obstacle.take().or(obstacle);
    Ok(())
}

fn number(value: &Element<'_>) -> Result<Box<[u8]>, DerFlaw> {
    let mut walk = value.walk();
    let number = walk.require(INTEGER, "a CRL's number is no INTEGER")?;
    walk.end("there is something after a CRL's number")?;
    let trimmed = trust::trimmed_serial(number.content);
    if number.content.first().is_none_or(|first| first & 0x80 != 0) || trimmed.len() > MAX_NUMBER {
        return Err(number.flaw("a CRL's number is negative or has more than 20 octets"));
    }
    Ok(trimmed.into())
}

fn key_id(value: &Element<'_>) -> Result<Option<Box<[u8]>>, DerFlaw> {
    let mut walk = value.walk();
    let sequence = walk.require(SEQUENCE, "AuthorityKeyIdentifier is no SEQUENCE")?;
    walk.end("there is something after AuthorityKeyIdentifier")?;
    // keyIdentifier is [0]; name and serial number of the issuer's certificate, if there, do not help here.
    Ok(sequence.walk().optional(0x80)?.map(|id| id.content.into()))
}

/// IssuingDistributionPoint (RFC 5280 §5.2.5): the scope, its identity, and whether it speaks for other
/// issuers too.
fn distribution_point(value: &Element<'_>) -> Result<(CrlScope, Sha256, bool), DerFlaw> {
    let mut outer = value.walk();
    let sequence = outer.require(SEQUENCE, "IssuingDistributionPoint is no SEQUENCE")?;
    outer.end("there is something after IssuingDistributionPoint")?;
    let mut parts = sequence.walk();
    let points = parts.optional(0xa0)?.map(|element| points(&element)).transpose()?;
    let (points, all_uris) = points.map_or((None, true), |(points, all_uris)| (Some(points), all_uris));
    let mut flag = |tag| parts.optional(tag)?.map_or(Ok(false), |element| truth(&element));
    let (users_only, authorities_only) = (flag(0x81)?, flag(0x82)?);
    let some_reasons = parts.optional(0x83)?.is_some();
    let mut flag = |tag| parts.optional(tag)?.map_or(Ok(false), |element| truth(&element));
    let (indirect, attributes_only) = (flag(0x84)?, flag(0x85)?);
    parts.end("IssuingDistributionPoint has an unknown part")?;
    let scope = CrlScope {
        users: !authorities_only && !attributes_only,
        authorities: !users_only && !attributes_only,
        distribution_points: points,
        all_reasons: !some_reasons,
    };
    let id = scope_id(&scope, if all_uris && !some_reasons { &[] } else { sequence.whole });
    Ok((scope, id, indirect))
}

/// What two CRLs of one scope have in common, and no two of different scopes. Two scopes taken for one would push
/// each other's CRLs out, so whatever [`CrlScope`] does not hold takes part as it stands.
fn scope_id(scope: &CrlScope, beyond: &[u8]) -> Sha256 {
    let CrlScope { users, authorities, distribution_points, all_reasons } = scope;
    let mut known =
        [users, authorities, all_reasons, &distribution_points.is_some()].map(|flag| u8::from(*flag)).to_vec();
    for point in distribution_points.iter().flatten() {
        known.extend(point.0);
    }
    // All before `beyond` is of one digest's length, so that nothing can pass from one part to the other.
    Sha256::of_two(&Sha256::of(&known).0, beyond)
}

/// The URIs of a DistributionPointName, and whether it holds nothing else. One named otherwise matches no certificate that we read: it covers
/// nobody, while its entries still revoke.
fn points(element: &Element<'_>) -> Result<(Box<[Sha256]>, bool), DerFlaw> {
    let mut choice = element.walk();
    let name = choice.step()?;
    choice.end("there is something after the distribution point's name")?;
    let (mut digests, mut all_uris) = (Vec::new(), name.tag == 0xa0);
    // fullName is [0]; nameRelativeToCRLIssuer, [1], has no URI.
    if name.tag == 0xa0 {
        let mut names = name.walk();
        while !names.is_done() {
            let one = names.step()?;
            if one.tag == 0x86 {
                digests.push(Sha256::of(one.content));
            } else {
                all_uris = false;
            }
        }
    }
    // In order, so that two CRLs of one scope are told to be that.
    digests.sort_unstable();
    digests.dedup();
    Ok((digests.into_boxed_slice(), all_uris))
}
