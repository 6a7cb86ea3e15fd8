//! The one TLS provider of the process.

use std::sync::{Arc, LazyLock};

use rustls::NamedGroup;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// aws-lc-rs, installed as the default of the process on the first call.
///
/// Called first in `main`, because libraries that ask the process for a provider (kube, tonic) find none or another one
/// otherwise. Our own configurations name it.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let ours = aws_lc_rs::default_provider();
        if ours.clone().install_default().is_err() && !process_default_is_ours() {
            tracing::error!("another TLS provider was installed before aws-lc-rs");
        }
        Arc::new(ours)
    });
    PROVIDER.clone()
}

/// Only aws-lc-rs offers the hybrid group, and it is first there.
fn process_default_is_ours() -> bool {
    let first = CryptoProvider::get_default().and_then(|p| p.kx_groups.first());
    first.is_some_and(|group| group.name() == NamedGroup::X25519MLKEM768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_default_prefers_post_quantum_key_exchange() {
        provider();
        assert!(process_default_is_ours());
    }
}
