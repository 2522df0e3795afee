//! Who asks, and what they may do: by the token that a request shows, if it shows one.
//!
//! A door asks for tokens or does not. Where it does not, whoever reaches it may do everything, and a
//! token that is shown all the same holds. Each operation says what it needs ([`Need`]); what an
//! operation on the store does is held against the token where it leaves for the store, by the client
//! that this gives out, so that no endpoint has to think of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aspen_tickets::Verb;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};

use super::App;
use super::access::AccessId;
use super::audit::Audit;
use super::problem::{DENIED, Problem, READ_ONLY, UNAUTHENTICATED};
use crate::client::KvClient;
use crate::error::{Denied, Error};
use crate::limits::TOKENS_MAX;
use crate::node::{Cluster, Holder};
use crate::roster::tokens::Token;

/// Whether a door asks for tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Whoever reaches it may do everything, so nobody may reach it from beyond this machine.
    #[default]
    Off,
    /// Whoever reaches it may do everything, from wherever.
    Insecure,
    /// Only who shows a good token may do anything.
    Required,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: whoever looks after the node may ask.
    Nothing,
    /// A token, which is held against each key.
    Token,
    /// A token that allows so much of everything that there is.
    All(Verb),
}

impl Need {
    /// What it is, for people.
    pub(super) fn about(self) -> &'static str {
        match self {
            Need::Nothing => "Needs no token.",
            Need::Token => "Needs a token for the keys that it is about.",
            Need::All(Verb::Admin) => "Needs a token that may administer everything.",
            Need::All(_) => "Needs a token that may read everything.",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// Nobody said.
    Anybody,
    /// Whoever can read the node's own files.
    Owner,
    /// The holder of a token.
    Holder(Arc<Holder>),
}

/// As the audit log names them.
impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asker::Anybody => f.write_str("anybody"),
            Asker::Owner => f.write_str("owner"),
            Asker::Holder(holder) => {
                write!(f, "{}", AccessId(holder.permit.grant))?;
                match holder.name.as_str() {
                    "" => Ok(()),
                    name => write!(f, " ({name})"),
                }
            }
        }
    }
}

/// Knows who asks at one door.
#[derive(Debug)]
pub(super) struct Keeper {
    auth: Auth,
    /// None where there is no node, and so no tokens.
    cluster: Option<Cluster>,
    /// The token of whoever can read the node's own files.
    owner: Option<blake3::Hash>,
    /// Of who may do everything that the node does.
    whole: KvClient,
    /// Of the holders of tokens that came here.
    clients: Mutex<HashMap<u128, KvClient>>,
    pub(super) audit: Audit,
}

impl Keeper {
    /// Lets in whoever reaches it.
    pub(super) fn open(client: KvClient) -> Self {
        Keeper::new(Auth::Off, None, None, client)
    }

    /// Of a node's door; the owner's token is good there besides the cluster's.
    pub(super) fn of(
        cluster: Cluster,
        client: KvClient,
        auth: Auth,
        owner: Option<&Token>,
    ) -> Self {
        let whole = if cluster.is_node_read_only() { cluster.client_for(None) } else { client };
        Keeper::new(auth, Some(cluster), owner.map(Token::hash), whole)
    }

    fn new(
        auth: Auth,
        cluster: Option<Cluster>,
        owner: Option<blake3::Hash>,
        whole: KvClient,
    ) -> Self {
        let (clients, audit) = (Mutex::default(), Audit::default());
        Keeper { auth, cluster, owner, whole, clients, audit }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.auth == Auth::Required
    }

    /// Lets a request in that needs so much, or says why not.
    pub(super) async fn admit(
        &self,
        (method, headers): (&Method, &HeaderMap),
        need: Need,
    ) -> Result<Asker, (Asker, Problem)> {
        if need == Need::Nothing {
            return Ok(Asker::Anybody);
        }
        let asker = self.asker(headers).await.map_err(|problem| (Asker::Anybody, problem))?;
        match self.check(&asker, method, need) {
            Ok(()) => Ok(asker),
            Err(problem) => Err((asker, problem)),
        }
    }

    /// Who shows what.
    async fn asker(&self, headers: &HeaderMap) -> Result<Asker, Problem> {
        let (Some(shown), Some(cluster)) = (headers.get(AUTHORIZATION), &self.cluster) else {
            return Ok(Asker::Anybody);
        };
        const SCHEME: &[u8] = b"bearer ";
        let shown = shown.as_bytes();
        let is_bearer =
            shown.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
        if !is_bearer || headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return Err(Problem::new(
                &UNAUTHENTICATED,
                "the header Authorization is not Bearer and a token; send it once, and as that",
            ));
        }
        let shown = shown[SCHEME.len()..].trim_ascii();
        let is_owner = match (&self.owner, Token::read(shown)) {
            (Some(owner), Some(token)) => token.hash() == *owner,
            _ => false,
        };
        if is_owner {
            return Ok(Asker::Owner);
        }
        match cluster.holder(shown).await? {
            Some(holder) => Ok(Asker::Holder(Arc::new(holder))),
            None => Err(Problem::new(
                &UNAUTHENTICATED,
                "the token is not one of this cluster, has expired or was revoked; ask for a new one",
            )),
        }
    }

    fn check(&self, asker: &Asker, method: &Method, need: Need) -> Result<(), Problem> {
        match asker {
            Asker::Anybody if self.is_asking() => {
                return Err(Problem::new(
                    &UNAUTHENTICATED,
                    "this node asks for a token; send one in the header Authorization, after Bearer",
                ));
            }
            Asker::Anybody | Asker::Owner => {}
            Asker::Holder(holder) => check_holder(holder, need)?,
        }
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let is_read_only = self.cluster.as_ref().is_some_and(Cluster::is_node_read_only);
        if is_read_only && !is_read && matches!(need, Need::All(_)) {
            return Err(Problem::new(&READ_ONLY, Denied::NodeReadOnly.to_string()));
        }
        Ok(())
    }

    /// A client that does what they may do.
    pub(super) fn client(&self, asker: &Asker) -> KvClient {
        let (Asker::Holder(holder), Some(cluster)) = (asker, &self.cluster) else {
            return self.whole.clone();
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= TOKENS_MAX && !clients.contains_key(&holder.permit.grant) {
            let roster = cluster.roster();
            clients.retain(|id, _| roster.token(*id).is_some());
        }
        let new = || cluster.client_for(Some(holder.permit.clone()));
        clients.entry(holder.permit.grant).or_insert_with(new).clone()
    }
}

fn check_holder(holder: &Holder, need: Need) -> Result<(), Problem> {
    let Need::All(verb) = need else { return Ok(()) };
    let may = |verb| holder.permit.allows_all(verb);
    // Who may administer everything may also see what there is.
    if may(verb) || may(Verb::Admin) {
        return Ok(());
    }
    Err(Problem::new(
        &DENIED,
        match verb {
            Verb::Admin => "this needs a token that may administer everything; ask for one",
            _ => "this needs a token that may read everything; ask for one",
        },
    ))
}

/// The store, as far as whoever asks may use it.
pub(super) struct Store(pub(super) KvClient);

impl<S> FromRequestParts<S> for Store
where
    App: axum::extract::FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let app = <App as axum::extract::FromRef<S>>::from_ref(state);
        match parts.extensions.get::<Asker>() {
            Some(asker) => Ok(Store(app.keeper.client(asker))),
            // Nobody has looked who asks.
            None => Err(Error::Denied(Denied::Internal).into()),
        }
    }
}
