use super::*;
use crate::tls::provider;
use rcgen::{CertificateParams, KeyPair};

struct Pem {
    chain: String,
    key: String,
}

fn certificate(names: &[&str]) -> Pem {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    Pem {
        chain,
        key: key.serialize_pem(),
    }
}

fn parse(pem: &Pem) -> Result<ServerCertificate, String> {
    ServerCertificate::parse(pem.chain.as_bytes(), pem.key.as_bytes(), &provider())
}

fn ready(names: &[&str]) -> ServerCertificate {
    parse(&certificate(names)).unwrap()
}

fn policy(settings: &TlsSettings<'_>) -> Result<TlsPolicy, String> {
    TlsPolicy::new(settings, &provider())
}

#[test]
fn a_certificate_that_cannot_be_shown_says_why() {
    let (a, b) = (certificate(&["a.test"]), certificate(&["b.test"]));
    let of = |chain: &str, key: &str| {
        let pem = Pem {
            chain: chain.to_owned(),
            key: key.to_owned(),
        };
        parse(&pem).unwrap_err()
    };
    assert_eq!(of("", &a.key), "the chain holds no certificate");
    assert_eq!(of("nothing", &a.key), "the chain holds no certificate");
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert_eq!(of(broken, &a.key), "the certificate chain is not PEM");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(of(garbage, &a.key), "the first certificate cannot be read");
    assert_eq!(
        of(&a.chain, ""),
        "the private key is not a PEM key that is not encrypted"
    );
    assert_eq!(
        of(&a.chain, &b.key),
        "the private key does not belong to the certificate"
    );
}

#[test]
fn certificates_are_found_by_name() {
    let shop = ready(&["shop.test", "*.shop.test"]);
    let exact = ready(&["A.Shop.test"]);
    let fallback = ready(&["fallback.test"]);
    let policy = policy(&TlsSettings::default()).unwrap();
    let front = TlsFront::new(&policy, [&shop, &exact].into_iter(), Some(&fallback));
    let found = |name: Option<&str>| Arc::as_ptr(front.store.of(name).first().unwrap());
    let of = |certificate: &ServerCertificate| Arc::as_ptr(&certificate.key);
    assert_eq!(found(Some("shop.test")), of(&shop));
    assert_eq!(found(Some("b.shop.test")), of(&shop));
    assert_eq!(found(Some("a.shop.test")), of(&exact));
    assert_eq!(found(Some("c.b.shop.test")), of(&fallback), "one label");
    assert_eq!(found(Some("other.test")), of(&fallback));
    assert_eq!(found(None), of(&fallback));
    let bare = TlsFront::new(&policy, [&shop].into_iter(), None);
    assert!(bare.store.of(None).is_empty());
    assert!(bare.store.of(Some("other.test")).is_empty());
}

#[test]
fn a_connection_is_for_hosts_with_its_certificate() {
    let both = ready(&["a.test", "b.test"]);
    let other = ready(&["c.test"]);
    let policy = policy(&TlsSettings::default()).unwrap();
    let front = TlsFront::new(&policy, [&both, &other].into_iter(), None);
    let of = |sni: Option<&str>| TlsInfo {
        sni: sni.map(Into::into),
        ..TlsInfo::default()
    };
    let a = of(Some("a.test"));
    assert!(front.is_one_for(&a, "a.test"));
    assert!(front.is_one_for(&a, "b.test"));
    assert!(!front.is_one_for(&a, "c.test"));
    assert!(!front.is_one_for(&a, "d.test"));
    assert!(!front.is_one_for(&of(Some("d.test")), "a.test"));
    assert!(front.is_one_for(&of(None), "a.test"));
}

#[test]
fn settings_that_cannot_be_had_are_refused() {
    let suites = |names: &[&str], only_newest| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let settings = TlsSettings {
            only_newest,
            cipher_suites: &names,
            ..TlsSettings::default()
        };
        policy(&settings).map(|_| ())
    };
    assert_eq!(suites(&["TLS_AES_128_GCM_SHA256"], true), Ok(()));
    let old = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    assert_eq!(suites(&[old], false), Ok(()));
    assert!(suites(&[old], true).unwrap_err().contains("none of them"));
    let error = suites(&["TLS_RSA_WITH_RC4_128_SHA"], false).unwrap_err();
    assert!(
        error.contains("TLS_RSA_WITH_RC4_128_SHA is not one of TLS_AES_256_GCM_SHA384,"),
        "{error}"
    );
    for authorities in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let client = Some(ClientAuth {
            authorities,
            required: true,
            any: false,
        });
        let settings = TlsSettings {
            client,
            ..TlsSettings::default()
        };
        let error = policy(&settings).map(|_| ()).unwrap_err();
        assert!(error.starts_with("tls.clientValidation: "), "{error}");
    }
}
