//! The one TLS provider of the process.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// aws-lc-rs, installed as the default of the process on the first call, which is the first line of `main`: libraries
/// that ask the process for a provider would otherwise find none or install another one.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let ours = Arc::new(aws_lc_rs::default_provider());
        // An error says that there is one already: the controller's, in the process of `diolkos run`.
        let _ = CryptoProvider::install_default((*ours).clone());
        ours
    });
    PROVIDER.clone()
}
