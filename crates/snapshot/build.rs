//! Compiles the protocol in Rust alone: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["diolkos/snapshot/v1/snapshot.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".diolkos.snapshot.v1.Resource.body")
        .compile_fds(files)?;
    Ok(())
}
