//! The stores: how each is started as a cluster, and spoken to.

mod aspen;
#[cfg(feature = "etcd")]
mod etcd;
mod redis;

use std::time::Duration;

use bytes::Bytes;

use crate::Result;

/// A store and a way to speak to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Three processes, over HTTP/1.1.
    AspenHttp,
    /// The same, by a client's ticket: over one link of QUIC.
    AspenTicket,
    /// One process that syncs before it answers.
    Redis,
    /// Three processes, over gRPC.
    Etcd,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::AspenHttp => "Aspen, HTTP",
            Kind::AspenTicket => "Aspen, ticket",
            Kind::Redis => "Redis, appendfsync always",
            Kind::Etcd => "etcd, gRPC",
        }
    }
}

/// Servers that run, in fresh directories.
pub(crate) enum Cluster {
    Aspen(aspen::Servers),
    AspenByTicket(aspen::Servers, ::aspen::Client),
    Redis(redis::Server),
    #[cfg(feature = "etcd")]
    Etcd(etcd::Servers),
}

/// One client's way to whoever leads. A connection of its own.
pub(crate) enum Session {
    Http(aspen::Http),
    Ticket(::aspen::KvClient),
    Redis(redis::Connection),
    #[cfg(feature = "etcd")]
    Etcd(etcd::Client),
}

impl Cluster {
    pub(crate) async fn start(kind: Kind) -> Result<Cluster> {
        match kind {
            Kind::AspenHttp => Ok(Cluster::Aspen(aspen::Servers::start().await?)),
            Kind::AspenTicket => {
                let servers = aspen::Servers::start().await?;
                let client = servers.visit().await?;
                Ok(Cluster::AspenByTicket(servers, client))
            }
            Kind::Redis => Ok(Cluster::Redis(redis::Server::start().await?)),
            #[cfg(feature = "etcd")]
            Kind::Etcd => Ok(Cluster::Etcd(etcd::Servers::start().await?)),
            #[cfg(not(feature = "etcd"))]
            Kind::Etcd => Err("this was built without `--features etcd`".into()),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Cluster::Aspen(_) => Kind::AspenHttp,
            Cluster::AspenByTicket(..) => Kind::AspenTicket,
            Cluster::Redis(_) => Kind::Redis,
            #[cfg(feature = "etcd")]
            Cluster::Etcd(_) => Kind::Etcd,
        }
    }

    /// One more client.
    pub(crate) async fn session(&self) -> Result<Session> {
        match self {
            Cluster::Aspen(servers) => Ok(Session::Http(servers.http().await?)),
            Cluster::AspenByTicket(_, client) => Ok(Session::Ticket(client.kv())),
            Cluster::Redis(server) => Ok(Session::Redis(server.connection().await?)),
            #[cfg(feature = "etcd")]
            Cluster::Etcd(servers) => Ok(Session::Etcd(servers.client().await?)),
        }
    }

    /// Kills all servers at once, and starts them again.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        match self {
            Cluster::Aspen(servers) => servers.restart().await,
            Cluster::AspenByTicket(servers, client) => {
                client.close().await;
                servers.restart().await?;
                *client = servers.visit().await?;
                Ok(())
            }
            Cluster::Redis(server) => server.restart().await,
            #[cfg(feature = "etcd")]
            Cluster::Etcd(servers) => servers.restart().await,
        }
    }

    /// How much processor time all servers have used.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        match self {
            Cluster::Aspen(servers) | Cluster::AspenByTicket(servers, _) => {
                servers.processor_time()
            }
            Cluster::Redis(server) => server.processor_time(),
            #[cfg(feature = "etcd")]
            Cluster::Etcd(servers) => servers.processor_time(),
        }
    }
}

impl Session {
    /// Writes, and waits until it is durable at a majority.
    pub(crate) async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        match self {
            Session::Http(http) => http.put(key, value).await,
            Session::Ticket(kv) => Ok(kv.put(key, value).await.map(drop)?),
            Session::Redis(redis) => redis.set(key, &value).await,
            #[cfg(feature = "etcd")]
            Session::Etcd(client) => client.put(key, value).await,
        }
    }

    /// Reads what is there, linearizably; whatever is asked for is there.
    pub(crate) async fn get(&mut self, key: &str) -> Result<Bytes> {
        match self {
            Session::Http(http) => http.get(key).await,
            Session::Ticket(kv) => {
                let found = kv.get(key).await?.ok_or_else(|| format!("{key} is not there"))?;
                Ok(Bytes::copy_from_slice(found.value.as_bytes()))
            }
            Session::Redis(redis) => redis.get(key).await,
            #[cfg(feature = "etcd")]
            Session::Etcd(client) => client.get(key).await,
        }
    }
}
