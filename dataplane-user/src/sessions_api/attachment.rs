//! An application's end of its stream.

use super::{
    client::{ClientError, client, epoch, node, session_id},
    convert::bytes,
    proto::{
        self, FromApplication, Reason, ToApplication, from_application,
        sessions_client::SessionsClient, to_application::Message,
    },
};
use futures_util::stream;
use ownership::{Epoch, NodeIndex, SessionId, StateVersion};
use std::net::SocketAddr;
use tokio::sync::mpsc;
use tonic::{Status, Streaming, transport::Channel};

/// How many answers wait for the connection.
const WAITING: usize = 64;

/// An open stream: the application is told of its service's sessions. When this is dropped, the
/// stream is over, and every session that it owns has lost its transport.
#[derive(Debug)]
pub struct Attachment {
    begun: proto::Attached,
    node: NodeIndex,
    epoch: Epoch,
    told: Streaming<ToApplication>,
    answers: Answers,
}

/// The way back, which any thread or task may use.
#[derive(Clone, Debug)]
pub struct Answers(mpsc::Sender<FromApplication>);

/// What an application is told of a session of its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It goes on here. To be answered with [`Answers::ready`]: until then its packets wait.
    Granted {
        /// The session.
        session: SessionId,
        /// The epoch of its owner, which is this node.
        epoch: Epoch,
        /// Its state_version.
        version: StateVersion,
        /// The client that it is bound to.
        client: Option<SocketAddr>,
        /// Its wire ids besides the SessionID.
        wire_ids: Vec<Vec<u8>>,
        /// What the application there, or here before, has left for it.
        context: Vec<u8>,
    },
    /// It is about to move: it is bound to no new client.
    Freezes {
        /// The session.
        session: SessionId,
        /// Where it is to go.
        to: NodeIndex,
    },
    /// No more packets of it come. To be answered with [`Answers::quiesced`].
    Quiesce {
        /// The session.
        session: SessionId,
    },
    /// It does not move after all.
    Thaws {
        /// The session.
        session: SessionId,
    },
    /// Another node owns it.
    Lost {
        /// The session.
        session: SessionId,
        /// Which node.
        to: NodeIndex,
    },
    /// Its client has reattached from another address.
    Changed {
        /// The session.
        session: SessionId,
        /// Its state_version.
        version: StateVersion,
        /// The client that it is bound to.
        client: Option<SocketAddr>,
    },
    /// It is over.
    Ended {
        /// The session.
        session: SessionId,
    },
    /// An answer about it had no effect.
    Refused {
        /// The session.
        session: SessionId,
        /// Why.
        reason: Reason,
        /// In words for people.
        message: String,
    },
}

impl Attachment {
    pub(super) async fn begin(
        mut calls: SessionsClient<Channel>,
        service: &str,
    ) -> Result<Self, ClientError> {
        let (answers, waiting) = mpsc::channel(WAITING);
        let answers = Answers(answers);
        let begin = proto::Begin { service: service.to_owned() };
        answers.send(from_application::Message::Begin(begin)).await?;
        let waiting =
            stream::unfold(
                waiting,
                |mut waiting| async move { Some((waiting.recv().await?, waiting)) },
            );
        let mut told = calls.attach(waiting).await?.into_inner();
        let first = told.message().await?.and_then(|first| first.message);
        let Some(Message::Attached(begun)) = first else {
            return Err(ClientError::Answer("first message"));
        };
        let (node, epoch) = (node(begun.node)?, epoch(begun.epoch)?);
        Ok(Self { begun, node, epoch, told, answers })
    }

    /// The stream's number, for sessions that it owns.
    pub fn stream(&self) -> u64 {
        self.begun.stream
    }

    /// This node.
    pub fn node(&self) -> NodeIndex {
        self.node
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many bytes a session's context may have at most.
    pub fn context_limit(&self) -> usize {
        self.begun.context_limit as usize
    }

    /// The way back.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    /// What the application is told next; nothing when the stream is over. Nothing is lost if this is
    /// cancelled.
    ///
    /// # Errors
    ///
    /// If the daemon ends the stream, or the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Notice>, ClientError> {
        while let Some(told) = self.told.message().await? {
            // Messages of later versions have none.
            if let Some(message) = told.message {
                return notice(message).map(Some);
            }
        }
        Ok(None)
    }
}

impl Answers {
    /// The application is ready for a session that was granted; `owned` says whether this stream owns it.
    ///
    /// # Errors
    ///
    /// If the stream is over.
    pub async fn ready(&self, session: SessionId, owned: bool) -> Result<(), ClientError> {
        let (session, owned_by_connection) = (bytes(session), owned);
        let ready = proto::Ready { session, owned_by_connection };
        self.send(from_application::Message::Ready(ready)).await
    }

    /// The application is done with a session, and this is its final context; `None` sends the one that was
    /// left before.
    ///
    /// # Errors
    ///
    /// If the stream is over.
    pub async fn quiesced(
        &self,
        session: SessionId,
        context: Option<Vec<u8>>,
    ) -> Result<(), ClientError> {
        let quiesced = proto::Quiesced { session: bytes(session), context };
        self.send(from_application::Message::Quiesced(quiesced)).await
    }

    /// This stream owns a session from now on, and no other does. [`Notice::Refused`] follows if it cannot.
    ///
    /// # Errors
    ///
    /// If the stream is over.
    pub async fn own(&self, session: SessionId) -> Result<(), ClientError> {
        let own = proto::Own { session: bytes(session) };
        self.send(from_application::Message::Own(own)).await
    }

    /// This stream owns a session no longer.
    ///
    /// # Errors
    ///
    /// If the stream is over.
    pub async fn disown(&self, session: SessionId) -> Result<(), ClientError> {
        let disown = proto::Disown { session: bytes(session) };
        self.send(from_application::Message::Disown(disown)).await
    }

    async fn send(&self, message: from_application::Message) -> Result<(), ClientError> {
        let sent = self.0.send(FromApplication { message: Some(message) }).await;
        sent.map_err(|_| Status::cancelled("the stream is over").into())
    }
}

fn notice(message: Message) -> Result<Notice, ClientError> {
    Ok(match message {
        Message::Attached(_) => return Err(ClientError::Answer("message")),
        Message::Granted(told) => Notice::Granted {
            session: session_id(&told.session)?,
            epoch: epoch(told.epoch)?,
            version: StateVersion::new(told.version),
            client: client(&told.client)?,
            wire_ids: told.wire_ids,
            context: told.context,
        },
        Message::Freezes(told) => {
            Notice::Freezes { session: session_id(&told.session)?, to: node(told.node)? }
        }
        Message::Quiesce(told) => Notice::Quiesce { session: session_id(&told.session)? },
        Message::Thaws(told) => Notice::Thaws { session: session_id(&told.session)? },
        Message::Lost(told) => {
            Notice::Lost { session: session_id(&told.session)?, to: node(told.node)? }
        }
        Message::Changed(told) => Notice::Changed {
            session: session_id(&told.session)?,
            version: StateVersion::new(told.version),
            client: client(&told.client)?,
        },
        Message::Ended(told) => Notice::Ended { session: session_id(&told.session)? },
        Message::Refused(told) => Notice::Refused {
            session: session_id(&told.session)?,
            reason: told.reason(),
            message: told.message,
        },
    })
}
