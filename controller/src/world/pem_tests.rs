use super::*;
use rcgen::{CertificateParams, KeyPair};

fn values(of: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    let one = |(key, value): &(&str, &str)| ((*key).to_owned(), Secret::new(*value));
    of.iter().map(one).collect()
}

fn certificate(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key);
    (certificate.unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_pair_is_read_with_its_names_and_nothing_beside_it() {
    let (chain, key) = certificate(&["A.example.com", "*.b.example.com"]);
    let (further, other) = certificate(&["ca"]);
    // As some tools write it: remarks, and even a key.
    let text = format!("remark\r\n{}{other}{further}", chain.replace('\n', "\r\n"));
    let pair = Pair::read(&values(&[(CHAIN, &text), (KEY, &key)])).unwrap();
    assert_eq!(pair.chain, format!("{chain}{further}").replace('\r', ""));
    assert_eq!(pair.names, ["a.example.com", "*.b.example.com"]);
    assert_eq!(pair.key.reveal(), key.as_bytes());
    assert!(pair.not_after > 4_000_000_000);
    for (host, covered) in [
        ("a.example.com", true),
        ("x.b.example.com", true),
        ("x.y.b.example.com", false),
        ("b.example.com", false),
        ("example.com", false),
        ("com", false),
    ] {
        assert_eq!(pair.covers(host), covered, "{host}");
    }
}

#[test]
fn what_is_wrong_is_said_without_a_byte_of_it() {
    let (chain, key) = certificate(&["a"]);
    let (_, other) = certificate(&["a"]);
    let cut = &chain[..chain.len() - 60];
    let bad = chain.replacen("MII", "!!!", 1);
    let big = chain.repeat(400);
    let not_x509 = "-----BEGIN CERTIFICATE-----\nbWFya2Vy\n-----END CERTIFICATE-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nbWFya2Vy\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (chain, key, why) in [
        (
            chain.as_str(),
            other.as_str(),
            "does not belong to the first certificate",
        ),
        (cut, &key, "tls.crt is not PEM"),
        (&bad, &key, "tls.crt is not PEM"),
        ("marker", &key, "tls.crt holds no certificate in PEM"),
        ("", &key, "tls.crt holds no certificate in PEM"),
        (not_x509, &key, "is not X.509"),
        (&key, &chain, "tls.crt holds no certificate in PEM"),
        (&chain, "marker", "tls.key holds no private key in PEM"),
        (&chain, &chain, "tls.key holds no private key in PEM"),
        (&chain, encrypted, "or one that is encrypted"),
        (&big, &key, "larger than 128 KiB"),
    ] {
        let error = Pair::read(&values(&[(CHAIN, chain), (KEY, key)])).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(
            !error.contains("marker") && !error.contains("bWFya2Vy"),
            "{error}"
        );
    }
    let missing = Pair::read(&values(&[(CHAIN, &chain)])).unwrap_err();
    assert_eq!(missing, "it has no key tls.key");
    let missing = Pair::read(&values(&[(KEY, &key)])).unwrap_err();
    assert_eq!(missing, "it has no key tls.crt");
}

#[test]
fn authorities_are_certificates_alone() {
    let (one, key) = certificate(&["a"]);
    let (two, _) = certificate(&["b"]);
    let text = format!("# one\n{one}{key}# two\n{two}");
    let read = authorities(&values(&[(AUTHORITIES, &text)])).unwrap();
    assert_eq!(read, format!("{one}{two}"));
    for (text, why) in [
        ("marker", "holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nbWFya2Vy\n-----END CERTIFICATE-----\n",
            "certificate 1 in ca.crt is not X.509",
        ),
    ] {
        let error = authorities(&values(&[(AUTHORITIES, text)])).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
