//! An actor that works where whoever started it did: ractor starts tasks of its own, which would be at
//! no node.

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::seams::Here;

/// An actor, and for which node and group it works.
#[derive(Debug)]
pub(super) struct Placed<A> {
    actor: A,
    here: Here,
}

impl<A> Placed<A> {
    /// The actor, where this is called.
    pub(super) fn new(actor: A) -> Self {
        Placed { actor, here: Here::present() }
    }
}

impl<A: Actor> Actor for Placed<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<A::State, ActorProcessingErr> {
        self.here.scope(self.actor.pre_start(myself, arguments)).await
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.here.scope(self.actor.post_start(myself, state)).await
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.here.scope(self.actor.post_stop(myself, state)).await
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.here.scope(self.actor.handle(myself, message, state)).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.here.scope(self.actor.handle_supervisor_evt(myself, event, state)).await
    }
}
