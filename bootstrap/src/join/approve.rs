//! The shell around [`decide`]: watches the requests for certificates and writes the decisions to them.
//!
//! What is to be done is read off the requests themselves, so nothing has to be remembered: a watch begins with all that
//! there are, and those that were made while nobody looked are decided then.

use std::pin::pin;

use anyhow::{Context, Error, Result, anyhow};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};

use super::certify::{self, BOOT_SIGNER, Certifier};
use super::decide::{Request, Verdict, decide};
use super::{Cluster, NoGrant};

/// How long the API server keeps a watch open, in seconds. The next one goes on where it ended. It is less than the time
/// after which a connection is given up that brings nothing, and so tells a quiet API server from one that is gone.
pub(crate) const WATCH: u32 = 10;

// === impl Cluster ===

impl Cluster {
    /// Decides on the requests that machines' tokens make for certificates, and with a certifier on those of boot
    /// servers, until something goes wrong; returns what. Call it again then. Only an administrator may.
    pub async fn approve(&self, certifier: Option<&Certifier>) -> Error {
        let config = watcher::Config::default().timeout(WATCH);
        let mut events = pin!(watcher(self.requests(), config));
        loop {
            let request = match events.try_next().await {
                Ok(Some(watcher::Event::InitApply(request) | watcher::Event::Apply(request))) => request,
                Ok(Some(watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_))) => {
                    continue;
                }
                Ok(None) => return anyhow!("the watch on requests for certificates ended"),
                Err(error) => return Error::new(error).context("cannot watch the requests for certificates"),
            };
            if let Err(error) = self.settle(request, certifier).await {
                return error;
            }
        }
    }

    async fn settle(&self, object: CertificateSigningRequest, certifier: Option<&Certifier>) -> Result<()> {
        let spec = object.spec.clone();
        let request = Request {
            signer: &spec.signer_name,
            username: spec.username.as_deref().unwrap_or_default(),
            groups: spec.groups.as_deref().unwrap_or_default(),
            usages: spec.usages.as_deref().unwrap_or_default(),
            pem: &spec.request.0,
        };
        if let Some(certifier) = certifier.filter(|_| request.signer == BOOT_SIGNER) {
            if certify::is_settled(&object) {
                return Ok(());
            }
            return self.settle_boot_server(object, &request, certifier).await;
        }
        if is_settled(&object) {
            return Ok(());
        }
        let (name, token) = (object.name_any(), request.token_id());
        // Tokens that are not ours are not asked for; of them all is decided already.
        let grant = match token {
            Ok(id) => self.grant(id).await?,
            Err(_) => Err(NoGrant::Unbound),
        };
        let verdict = decide(&request, grant.as_ref().map_err(|none| *none), Timestamp::now());
        let token = token.unwrap_or_default().to_owned();
        match &verdict {
            Verdict::Approve(node) => {
                let message = format!("the bootstrap token {token} was minted for {node}");
                if self.mark(object, condition("Approved", "TokenIsForThisNode", message)).await? {
                    tracing::info!(request = name, token, %node, "certificate approved");
                }
            }
            Verdict::Deny(denial) => {
                let condition = condition("Denied", denial.reason(), denial.to_string());
                if self.mark(object, condition).await? {
                    tracing::warn!(request = name, token, reason = %denial, "certificate denied");
                }
            }
            Verdict::Ignore(reason) => {
                tracing::debug!(request = name, %reason, "a request for a certificate is left to others");
            }
        }
        Ok(())
    }

    /// Writes a decision; says whether that was done, as [`write`](Self::write).
    pub(super) async fn mark(
        &self,
        object: CertificateSigningRequest,
        condition: CertificateSigningRequestCondition,
    ) -> Result<bool> {
        self.mark_in(object, condition, "approval").await
    }

    /// Adds a condition by way of a subresource.
    pub(super) async fn mark_in(
        &self,
        mut object: CertificateSigningRequest,
        condition: CertificateSigningRequestCondition,
        subresource: &str,
    ) -> Result<bool> {
        object.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
        self.write(&object, subresource).await
    }

    /// Writes what a request has become; says whether that was done. Where it was not, somebody else was faster, or the
    /// API server does not take it, which must not keep other requests waiting.
    pub(super) async fn write(&self, object: &CertificateSigningRequest, subresource: &str) -> Result<bool> {
        let name = object.name_any();
        match self.requests().replace_subresource(subresource, &name, &PostParams::default(), object).await {
            Ok(_) => Ok(true),
            // What it has become is another event, which is judged like this one.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                let code = status.code;
                tracing::debug!(request = name, code, "a request was changed or went away meanwhile");
                Ok(false)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                let reason = status.message;
                tracing::warn!(request = name, subresource, reason, "the API server refused a decision");
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("cannot write the {subresource} of {name}")),
        }
    }

    pub(super) fn requests(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.client.clone())
    }
}

fn is_settled(object: &CertificateSigningRequest) -> bool {
    let Some(status) = &object.status else { return false };
    status.certificate.is_some() || status.conditions.iter().flatten().next().is_some()
}

pub(super) fn condition(kind: &str, reason: &str, message: String) -> CertificateSigningRequestCondition {
    let now = Time(Timestamp::now());
    CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    }
}

#[cfg(test)]
mod tests;
