//! Any text as Kubernetes objects: no panic; what holds no pod stays byte for byte, what is injected is injected once, and
//! taken out again.
#![no_main]

use injector::{Configuration, Mode, Outcome, filter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let defaults = "{allow-any: true, certificate: 'secret:a', revocations: none, app-port: 8080}";
    let defaults = injector::read_document(defaults).expect("it is YAML");
    let configuration = Configuration::new(Some("i"), Some(("", &defaults)), |_, _| Ok(())).expect("it is whole");
    let Ok(once) = filter(text, &Mode::Inject(&configuration)) else { return };
    let changed = once.reports.iter().any(|report| matches!(report.outcome, Outcome::Changed(_)));
    if !changed {
        assert_eq!(once.text, text);
        return;
    }
    let twice = filter(&once.text, &Mode::Inject(&configuration)).expect("what is written can be read");
    assert_eq!(twice.text, once.text);
    let out = filter(&once.text, &Mode::Uninject).expect("what is written can be read");
    assert!(!out.reports.iter().any(|report| matches!(report.outcome, Outcome::Refused(_))), "{:?}", out.reports);
});
