//! Any bytes as a certificate: no panic, neither in reading it nor in finding its identity, nor as an intermediate.
#![no_main]

use libfuzzer_sys::fuzz_target;
use revocation::Library;
use rustls_pki_types::CertificateDer;
use trust::{Bundle, Certificate, Speaks, Time};

fuzz_target!(|bytes: &[u8]| {
    let now = Time::from_seconds(1_767_268_800);
    if let Ok(certificate) = Certificate::parse(bytes) {
        if let Ok(identity) = certificate.identity() {
            assert!(["uri:", "dns:", "subject:"].iter().any(|kind| identity.typed().starts_with(kind)));
        }
        let _ = Library::default().introduce(bytes, &Bundle::default(), now);
    }
    let der = CertificateDer::from(bytes.to_vec());
    if let Ok(bundle) = Bundle::new(vec![(der.clone(), Speaks::ForAnybody)]) {
        let _ = trust::verify(&[der], &bundle, now);
    }
});
