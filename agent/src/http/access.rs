//! Who may ask: the deployment's own agents and errands, and the broker, known by the name in their certificate. The TLS
//! handshake has verified the chain; health checks come without a certificate and may only ask `GET /v1/leader`.

use std::sync::Arc;

use agent::api::{BROKER_NAME, certificate_name};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustls::pki_types::{CertificateDer, ServerName};

use super::answer::Failure;
use crate::agent::Agent;

/// The verified certificate of the client, where it showed one.
#[derive(Clone)]
pub(super) struct ClientCertificate(pub(super) Option<CertificateDer<'static>>);

pub(super) async fn require_certificate(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    let own_name = certificate_name(&agent.instance.spec.deployment);
    let certificate = request.extensions().get::<ClientCertificate>().and_then(|certificate| certificate.0.as_ref());
    let needed = format!("a client certificate for {own_name} or {BROKER_NAME} from the agents' authority is needed");
    match certificate {
        None => Failure::not_allowed(needed).into_response(),
        Some(certificate) if !is_for_one_of(certificate, &[&own_name, BROKER_NAME]) => {
            Failure::not_allowed(format!("the client certificate is for another name; {needed}")).into_response()
        }
        Some(_) => next.run(request).await,
    }
}

fn is_for_one_of(certificate: &CertificateDer<'_>, names: &[&str]) -> bool {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return false };
    let names = names.iter().filter_map(|name| ServerName::try_from(*name).ok());
    names.into_iter().any(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}
