//! Compiles the protocol in Rust alone: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["diolkos/snapshot/v1/service.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Their Debug is written by hand: they hold secrets.
        .skip_debug([
            ".diolkos.snapshot.v1.Certificate",
            ".diolkos.snapshot.v1.CredentialHeader",
            ".diolkos.snapshot.v1.Quarantined",
            ".diolkos.snapshot.v1.Resource",
        ])
        .bytes(".diolkos.snapshot.v1.Resource.body")
        .bytes(".diolkos.snapshot.v1.Quarantined.body")
        .compile_fds(files)?;
    Ok(())
}
