//! Flags of `diolkos-controller`; each may also be given by the environment.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::translate::Published;
use crate::webhook::Files;
use crate::world::{ObjectId, ObjectKind, Scope};

/// What is logged by default: our own lines from `info` and others from `warn`, without those of requests to the API server
/// that have failed: whoever made one says what follows from it.
pub const LOGGED: &str =
    "warn,kube_runtime=error,kube_client::client::builder=off,diolkos_controller=info";

/// The control plane of Diolkos: watches a cluster and pushes what it means to data planes.
#[derive(Clone, Debug, Parser)]
#[command(name = "diolkos-controller", version)]
pub struct Config {
    /// Address of the push channel.
    #[arg(long, env = "DIOLKOS_GRPC", default_value = "0.0.0.0:18000")]
    pub grpc: SocketAddr,
    /// Address of health, readiness and metrics.
    #[arg(long, env = "DIOLKOS_ADMIN", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
    /// The controller's own namespace: its Lease and the push channel's Secrets are there.
    #[arg(long, env = "DIOLKOS_NAMESPACE", default_value = "diolkos-system")]
    pub namespace: String,
    /// Namespaces to watch, at most 64, with commas between them; the controller's own is always one of them. Default: the whole
    /// cluster.
    #[arg(
        long,
        env = "DIOLKOS_WATCH_NAMESPACES",
        default_value = "",
        hide_default_value = true
    )]
    watch_namespaces: Scope,
    /// Namespaces whose Secrets may be read, and written for the data planes of Gateways there, at most 64, with commas between
    /// them; the controller's own is always one of them. Default: wherever everything else is watched.
    #[arg(
        long,
        env = "DIOLKOS_SECRET_NAMESPACES",
        default_value = "",
        hide_default_value = true
    )]
    secret_namespaces: Scope,
    /// Name of this replica in the Lease, such as the Pod's.
    #[arg(long, env = "DIOLKOS_IDENTITY", default_value = "diolkos-controller")]
    pub identity: String,
    /// Address of this replica, such as the Pod's: others find it there, at the port of the push channel, while it leads.
    /// Without it the controller is alone.
    #[arg(long, env = "DIOLKOS_REPLICA_IP")]
    pub replica_ip: Option<IpAddr>,
    /// Form of the log on standard error.
    #[arg(long, env = "DIOLKOS_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// How long to wait for kinds that may not be listed before those that can be done without count as empty, such as
    /// 60s or 2m.
    #[arg(long, env = "DIOLKOS_SYNC_TIMEOUT", default_value = "60s", value_parser = model::duration::parse)]
    pub sync_timeout: Duration,
    /// For how long objects stay in effect that a new list lacks after a lost watch, where it lacks more than half of ten
    /// or more of their kind: an API server that is being restored shows such lists. What is seen to be deleted goes at
    /// once. 0s: nothing is held back.
    #[arg(long, env = "DIOLKOS_REMOVAL_GRACE", default_value = "10s", value_parser = model::duration::parse)]
    pub removal_grace: Duration,
    /// How often everything that has been translated is looked at again, a little at a time: what is held otherwise than a
    /// translation from nothing gives is logged as an error, counted (`diolkos_incremental_mismatch_total`) and replaced.
    /// 0s: never.
    #[arg(long, env = "DIOLKOS_RECHECK", default_value = "10m", value_parser = model::duration::parse)]
    pub recheck: Duration,
    /// Image of the data planes that Gateways, and GatewayConfigs with `dataPlane`, get. Empty: none are made, somebody else
    /// runs them.
    #[arg(
        long,
        env = "DIOLKOS_DATAPLANE_IMAGE",
        default_value = "ghcr.io/diolkos/diolkos-dataplane:dev"
    )]
    pub dataplane_image: String,
    /// Data planes of each Gateway, and of each GatewayConfig with `dataPlane`.
    #[arg(
        long,
        env = "DIOLKOS_DATAPLANE_REPLICAS",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub dataplane_replicas: u32,
    /// Share of a processor that is kept free for each of these data planes, as a Kubernetes quantity.
    #[arg(long, env = "DIOLKOS_DATAPLANE_CPU_REQUEST", default_value = "100m")]
    pub dataplane_cpu_request: String,
    /// The Service of the data planes that GatewayConfigs share, NAMESPACE/NAME: its addresses stand in the statuses of
    /// Ingresses.
    /// Default: `diolkos-dataplane` in the controller's namespace.
    #[arg(long, env = "DIOLKOS_DATAPLANE_SERVICE", value_parser = namespaced_name)]
    pub dataplane_service: Option<(String, String)>,
    /// Addresses and host names that stand in the statuses of Ingresses in the place of those of the Service.
    #[arg(long, env = "DIOLKOS_INGRESS_ADDRESSES", value_delimiter = ',')]
    pub ingress_addresses: Vec<String>,
    /// Address of the validating webhook, such as 0.0.0.0:9443. Default: there is none.
    #[arg(long, env = "DIOLKOS_WEBHOOK", requires = "webhook_cert")]
    pub webhook: Option<SocketAddr>,
    /// The webhook's certificate with its chain, PEM. It is read again when it changes.
    #[arg(long, env = "DIOLKOS_WEBHOOK_CERT", requires = "webhook_key")]
    pub webhook_cert: Option<PathBuf>,
    /// The key of the webhook's certificate, PEM.
    #[arg(long, env = "DIOLKOS_WEBHOOK_KEY")]
    pub webhook_key: Option<PathBuf>,
    /// Authorities of the API server's client certificate, PEM: others are not heard. Default: nobody is asked for one,
    /// as API servers have none unless they are configured so.
    #[arg(long, env = "DIOLKOS_WEBHOOK_CLIENT_CA")]
    pub webhook_client_ca: Option<PathBuf>,
    /// Serve the push channel without TLS and without asking who connects. For tests.
    #[arg(long, env = "DIOLKOS_INSECURE_PLAINTEXT")]
    pub insecure_plaintext: bool,
}

impl Config {
    /// Where the webhook listens, and the files of its certificate.
    pub fn webhook_files(&self) -> Option<(SocketAddr, Files)> {
        let files = Files {
            certificate: self.webhook_cert.clone()?,
            key: self.webhook_key.clone()?,
            callers: self.webhook_client_ca.clone(),
        };
        Some((self.webhook?, files))
    }

    /// What of the cluster is watched.
    pub fn scope(&self) -> Scope {
        let scope = self.watch_namespaces.clone();
        scope
            .with_secrets_of(&self.secret_namespaces)
            .with(&self.namespace)
    }

    /// Whether Gateways, and GatewayConfigs with `dataPlane`, get data planes: with certificates, which nobody asks for over a push
    /// channel without TLS.
    pub fn makes_data_planes(&self) -> bool {
        !self.dataplane_image.is_empty() && !self.insecure_plaintext
    }

    /// Where the data planes that GatewayConfigs share are reached.
    pub fn published(&self) -> Published {
        let of_release = || (self.namespace.clone(), "diolkos-dataplane".to_owned());
        let (namespace, name) = self.dataplane_service.clone().unwrap_or_else(of_release);
        Published {
            addresses: self.ingress_addresses.clone(),
            service: Some(ObjectId::new(ObjectKind::Service, namespace, name)),
        }
    }
}

fn namespaced_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("must be NAMESPACE/NAME".to_owned()),
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_needs_a_certificate() {
        let parse = |more: &[&str]| {
            let all = ["diolkos-controller", "--webhook=0.0.0.0:9443"];
            Config::try_parse_from(all.iter().chain(more))
        };
        assert!(parse(&[]).is_err());
        assert!(parse(&["--webhook-cert=/c"]).is_err());
        let config = parse(&["--webhook-cert=/c", "--webhook-key=/k"]).unwrap();
        let (address, files) = config.webhook_files().unwrap();
        assert_eq!((address.port(), files.callers), (9443, None));
    }

    #[test]
    fn chosen_namespaces_and_its_own_are_watched() {
        let parse = |more: &[&str]| {
            let all = ["diolkos-controller", "--namespace=own"];
            Config::try_parse_from(all.iter().chain(more))
        };
        assert!(parse(&[]).unwrap().scope().is_cluster());
        let scope = parse(&["--watch-namespaces=a,b"]).unwrap().scope();
        let expected = ["a", "b", "own"].map(|name| Some(name.into()));
        assert_eq!(scope.places(), expected);
        let error = parse(&["--watch-namespaces=a,B"]).unwrap_err().to_string();
        assert!(error.contains("\"B\" cannot be a namespace"), "{error}");
    }

    #[test]
    fn secrets_are_read_in_chosen_namespaces_and_its_own() {
        let parse = |namespaces: &str| {
            let flag = format!("--secret-namespaces={namespaces}");
            Config::try_parse_from(["diolkos-controller", "--namespace=own", &flag])
        };
        let places = |namespaces: &str| parse(namespaces).unwrap().scope().places_of_secrets();
        assert_eq!(places(""), [None]);
        assert_eq!(places("own"), [Some("own".into())]);
        let expected = ["a", "own"].map(|name| Some(name.into()));
        assert_eq!(places("a"), expected);
        assert!(parse("a").unwrap().scope().is_cluster());
        assert!(parse("A").is_err());
    }

    #[test]
    fn flags_of_the_manifests() {
        let config = Config::try_parse_from([
            "diolkos-controller",
            "--grpc=0.0.0.0:18000",
            "--admin=0.0.0.0:9090",
            "--namespace=diolkos-system",
            "--identity=diolkos-controller-5d9c-x",
            "--replica-ip=fd00::7",
            "--sync-timeout=2m",
            "--ingress-addresses=192.0.2.1,lb.example.com",
        ])
        .unwrap();
        assert_eq!(config.sync_timeout, Duration::from_secs(120));
        assert_eq!(config.log_format, LogFormat::Json);
        assert!(!config.insecure_plaintext);
        let published = config.published();
        assert_eq!(published.addresses, ["192.0.2.1", "lb.example.com"]);
        let service = published.service.unwrap();
        assert_eq!(service.path(), "diolkos-system/diolkos-dataplane");
    }
}
