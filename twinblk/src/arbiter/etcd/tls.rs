//! TLS to etcd: its certificate must be of the given authority, and this node can show one of its own.

use crate::config::EtcdSettings;
use crate::failure::{Context, Failure};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What connects to `https` endpoints, where the settings name an authority.
pub(super) fn connector(settings: &EtcdSettings) -> Result<Option<TlsConnector>, Failure> {
    let Some(authority) = &settings.ca_file else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots
            .add(certificate)
            .context(|| format!("{} holds no certificate authority", authority.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context(|| "cannot set TLS up".to_owned())?
        .with_root_certificates(roots);
    let config = match (&settings.cert_file, &settings.key_file) {
        (Some(certificate), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key)
                .context(|| format!("{} holds no private key", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, private)
                .context(|| {
                    format!(
                        "{} and {} do not belong together",
                        certificate.display(),
                        key.display()
                    )
                })?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let doing = || format!("cannot read the certificates in {}", path.display());
    let found = CertificateDer::pem_file_iter(path)
        .context(doing)?
        .collect::<Result<Vec<_>, _>>()
        .context(doing)?;
    if found.is_empty() {
        return Err(Failure::failed(format!("{}: there are none", doing())));
    }
    Ok(found)
}
