//! Compiles `proto/sentinel.proto` without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "../../proto/sentinel.proto";
    println!("cargo::rerun-if-changed={proto}");
    let files = protox::compile([proto], ["../../proto"])?;
    tonic_prost_build::configure().bytes(".sentinel.v1.Envelope.payload").compile_fds(files)?;
    Ok(())
}
