//! Signing lists, as bytes: everything behind the first line stays as it is.
//!
//! Called by the commands on files. Whoever signs vouches for every entry, so what is no good list is not signed.

use crate::body::split_line;
use crate::envelope::Opened;
use crate::header::Body;
use crate::list::{self, frame};
use crate::{ReadError, Requirements, SecretKey};

/// Signs a list, compiled or not: adds these keys' signatures to those that are there.
pub fn sign(file: Vec<u8>, keys: &[SecretKey]) -> Result<Vec<u8>, ReadError> {
    if keys.is_empty() {
        return Err(ReadError::whole("there is no key to sign with; name a secret key with --key".to_owned()));
    }
    let frame = checked(&file)?;
    let (_, body) = split_line(&file);
    let opened = if frame.opened.enclosed {
        frame.opened
    } else {
        let header = crate::Header { body: Some(Body::of(body)), ..frame.header };
        Opened { header: header.render().map_err(ReadError::whole)?, signatures: Vec::new(), enclosed: false }
    };
    Ok(joined(opened.sealed(keys)?, body))
}

/// Says in the header that this issue may cut more sessions than sidecars allow. What is signed changes by it, so that
/// signatures are dropped, unless it was said already.
pub fn confirm(file: Vec<u8>) -> Result<Vec<u8>, ReadError> {
    let frame = checked(&file)?;
    if frame.header.confirm {
        return Ok(file);
    }
    let header = crate::Header { confirm: true, ..frame.header };
    Ok(joined(header.render().map_err(ReadError::whole)?, split_line(&file).1))
}

/// The first line of a list that can be read to its end.
fn checked(file: &[u8]) -> Result<list::Frame, ReadError> {
    let anything = Requirements { max_bytes: u64::MAX, ..Requirements::default() };
    match crate::read_under(file.to_vec(), &anything)? {
        crate::Material::List(_) => frame(file, &anything),
        crate::Material::Crls(_) => Err(ReadError::whole(
            "this is a CRL, and its issuer has signed it; name a list, or import the CRL into one".to_owned(),
        )),
    }
}

fn joined(mut first: Vec<u8>, body: &[u8]) -> Vec<u8> {
    first.reserve_exact(1 + body.len());
    first.push(b'\n');
    first.extend(body);
    first
}
