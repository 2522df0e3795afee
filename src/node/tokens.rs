//! Tokens, as far as the node keeps and decides them, and what comes in by a door that asks for one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::cluster::{Cluster, ClusterError};
use crate::client::{Guarded, KvClient, Tokens};
use crate::error::Error;
use crate::limits::TOKEN_LOOK_MAX;
use crate::roster::Roster;
use crate::roster::clients::Permit;
use crate::roster::tickets::Access;
use crate::roster::tokens::{self, Token, TokenRecord};
use crate::seams::disk::OpenMode;
use crate::seams::{Random, Seams, blocking};
use crate::types::{GroupId, KeyspaceName};

/// The file of the owner's token, in the data directory.
pub const OWNER_TOKEN_FILE: &str = "owner.token";
/// More than a token has, and its line end.
const OWNER_BYTES_MAX: usize = 128;

/// Who holds a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What they may do.
    pub permit: Permit,
    /// What the token is called; may be empty.
    pub name: String,
}

/// Looks at the records as they are now: one at a time, however many ask.
#[derive(Debug, Default)]
pub(super) struct Looks {
    begun: AtomicU64,
    /// Locked while one is under way.
    last: Mutex<LastLook>,
}

#[derive(Debug, Default)]
struct LastLook {
    number: u64,
    failed: Option<Error>,
}

impl Cluster {
    /// Makes a token, which is told this once, with what is kept of it; without a life it is good until
    /// it is revoked.
    pub async fn create_token(
        &self,
        access: Access,
        life: Option<Duration>,
    ) -> Result<(Token, TokenRecord), ClusterError> {
        let token = new_token(&self.inner.seams.random);
        let life_s = life.map(|life| life.as_secs());
        let create =
            |roster: &Roster, now_s| tokens::create(roster, &token, &access, life_s, now_s);
        let record = self.decide(create).await?;
        Ok((token, record))
    }

    /// The token of whoever can read this node's own files, good at this node alone: it stands in
    /// `owner.token` in the data directory, made when it is first asked for. Another takes its place
    /// once the file is deleted and the node starts again.
    pub async fn owner_token(&self) -> io::Result<Token> {
        let read = || {
            let (seams, dir) = (self.inner.seams.clone(), self.inner.data_dir.clone());
            blocking(move || owner_token(&seams, &dir))
        };
        // Two that make it at once would make two.
        self.inner.owner.get_or_try_init(read).await.cloned()
    }

    /// Takes a token back: it is good at no node that hears of it.
    pub async fn revoke_token(&self, id: u128) -> Result<(), ClusterError> {
        self.decide(|roster, _| Ok(((), tokens::revoke(roster, id)?))).await
    }

    /// Who shows this; `None` if it is no good token. An error says that this can't be told now.
    ///
    /// What this node does not know may have been made at another one a moment ago, so it asks. It
    /// does so whatever is wrong: the time that it takes tells nothing.
    pub async fn holder(&self, shown: &[u8]) -> Result<Option<Holder>, ClusterError> {
        let known = |roster: &Roster| tokens::holder(roster, shown, self.now_s());
        let holder = match known(&self.roster()) {
            None => known(&*self.look().await?),
            known => known,
        };
        Ok(holder.map(|(permit, name)| Holder { permit, name }))
    }

    /// The roster as of some moment since this was called.
    async fn look(&self) -> Result<Arc<Roster>, ClusterError> {
        let looks = &self.inner.looks;
        let begun_before = looks.begun.load(Ordering::SeqCst);
        let mut last = looks.last.lock().await;
        if last.number <= begun_before {
            let number = looks.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let failed = match timeout(TOKEN_LOOK_MAX, self.fresh()).await {
                Ok(looked) => looked.err(),
                Err(_) => {
                    let reason = "it did not say in time which tokens there are".into();
                    Some(Error::Unavailable { group: GroupId::META, reason })
                }
            };
            // One that was given up in between is none.
            *last = LastLook { number, failed };
        }
        match &last.failed {
            None => Ok(self.roster()),
            Some(error) => Err(error.clone().into()),
        }
    }

    /// A client of the default keyspace for whoever may do so much; without a permit, all that this
    /// node does at all.
    pub fn client_for(&self, permit: Option<Permit>) -> KvClient {
        let member = self.inner.member.clone();
        let nodes = Guarded::new(member, Arc::new(self.clone()), permit);
        KvClient::over(Arc::new(nodes), KeyspaceName::default(), self.inner.seams.random.clone())
    }

    /// Whether this node changes nothing for anybody.
    pub fn is_node_read_only(&self) -> bool {
        self.inner.member.is_read_only()
    }
}

/// Reads the owner's token, or makes it.
fn owner_token(seams: &Seams, dir: &Path) -> io::Result<Token> {
    let (disk, path) = (seams.disk.as_ref(), dir.join(OWNER_TOKEN_FILE));
    if disk.exists(&path)? {
        let file = disk.open(&path, OpenMode::Existing)?;
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX).min(OWNER_BYTES_MAX);
        let mut text = vec![0; len];
        file.read_at(&mut text, 0)?;
        return Token::read(text.trim_ascii()).ok_or_else(|| {
            let what = format!("{} holds no token; delete it, and start again", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        });
    }
    let token = new_token(&seams.random);
    let unfinished = dir.join("owner.token.new");
    if disk.exists(&unfinished)? {
        disk.remove(&unfinished)?;
    }
    let file = disk.open(&unfinished, OpenMode::CreateNewPrivate)?;
    file.write_at(format!("{}\n", token.text()).as_bytes(), 0)?;
    file.sync_data()?;
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(dir)?;
    Ok(token)
}

fn new_token(random: &Random) -> Token {
    let mut secret = [0; 32];
    random.fill(&mut secret);
    Token::new(random.next_u128(), secret)
}

impl Tokens for Cluster {
    fn still(&self, permit: &Permit) -> bool {
        tokens::still(&self.roster(), permit, self.now_s())
    }
}
