//! One application's stream: what it is told, and what it answers.

use super::{
    calls::{Desk, stopped},
    convert::{bytes, notice, session_id},
    losses,
    proto::{
        Attached, FromApplication, Quiesced, Ready, Reason, Refused, ToApplication,
        from_application, to_application::Message,
    },
    refusal::{self, status},
};
use crate::{
    node::Refusal,
    runtime::{Notice, Subscription},
};
use futures_util::stream::{self, BoxStream, StreamExt};
use ownership::SessionId;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::mpsc::{self, Permit};
use tonic::{Code, Status, Streaming};

/// How long the first message may take.
pub(super) const FIRST: Duration = Duration::from_secs(10);

/// How many messages wait here; more wait in the runtime.
const WAITING: usize = 64;

/// What an application has to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Grant,
    Quiesce,
}

/// Why a stream is over.
enum Over {
    /// The application has ended it, or died.
    Application,
    /// It did not read.
    GivenUp,
    /// It said what has no place.
    Refused(Status),
    /// The daemon or the node stops.
    Daemon,
}

struct Attachment {
    desk: Arc<Desk>,
    service: String,
    subscription: Subscription,
    incoming: Streaming<FromApplication>,
    outgoing: mpsc::Sender<Result<ToApplication, Status>>,
    /// What was asked about sessions; until they are answered, or another node's, or over.
    asked: HashMap<SessionId, Question>,
}

/// Serves a stream that has begun, until it is over.
pub(super) fn begin(
    desk: Arc<Desk>,
    service: String,
    subscription: Subscription,
    incoming: Streaming<FromApplication>,
) -> BoxStream<'static, Result<ToApplication, Status>> {
    let (outgoing, told) = mpsc::channel(WAITING);
    let mut attachment =
        Attachment { desk, service, subscription, incoming, outgoing, asked: HashMap::new() };
    tokio::spawn(async move {
        let over = attachment.serve().await;
        attachment.end(over).await;
    });
    stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) }).boxed()
}

impl Attachment {
    async fn serve(&mut self) -> Over {
        let owner = self.desk.runtime.me();
        let attached = Attached {
            stream: self.subscription.number(),
            node: owner.node.get().into(),
            epoch: owner.epoch.get(),
            // At most 64 KiB.
            context_limit: self.desk.runtime.context_limit().bytes() as u32,
        };
        if self.tell(Message::Attached(attached)).await.is_err() {
            return Over::Application;
        }
        let outgoing = self.outgoing.clone();
        let desk = Arc::clone(&self.desk);
        let mut stops = std::pin::pin!(stopped(desk.stops.clone()));
        let mut ended = std::pin::pin!(desk.runtime.ended());
        loop {
            tokio::select! {
                told = next(&outgoing, &mut self.subscription) => match told {
                    Some((permit, Some(notice))) => self.forward(permit, notice),
                    Some((_, None)) => return Over::GivenUp,
                    None => return Over::Application,
                },
                message = self.incoming.message() => match message {
                    Ok(Some(FromApplication { message: Some(message) })) => {
                        if let Err(over) = self.take(message).await {
                            return over;
                        }
                    }
                    // A message of a later version.
                    Ok(Some(FromApplication { message: None })) => {}
                    Ok(None) | Err(_) => return Over::Application,
                },
                () = &mut stops => return Over::Daemon,
                _end = &mut ended => return Over::Daemon,
            }
        }
    }

    /// Tells a notice, and remembers what it asks.
    fn forward(&mut self, permit: Permit<'_, Result<ToApplication, Status>>, told: Notice) {
        match &told {
            Notice::Granted { session, .. } => {
                self.asked.insert(*session, Question::Grant);
            }
            Notice::Quiesce { session, .. } => {
                self.asked.insert(*session, Question::Quiesce);
            }
            Notice::Thaws { session, .. } => {
                self.asked.remove(session);
            }
            Notice::Lost { session, .. } | Notice::Ended { session, .. } => {
                self.asked.remove(session);
                self.desk.streams.disown(self.subscription.number(), *session);
            }
            Notice::Freezes { .. } | Notice::Changed { .. } => {}
        }
        permit.send(Ok(ToApplication { message: Some(notice(told)) }));
    }

    /// Takes what the application says.
    async fn take(&mut self, message: from_application::Message) -> Result<(), Over> {
        use from_application::Message as From;
        let stream = self.subscription.number();
        match message {
            From::Begin(_) => {
                let message = "a stream begins once";
                Err(Over::Refused(status(Code::InvalidArgument, Reason::OutOfOrder, message)))
            }
            From::Ready(Ready { session, owned_by_connection }) => {
                let session = session_id(&session).map_err(Over::Refused)?;
                // An answer that comes too late is no fault.
                if self.asked.get(&session) == Some(&Question::Grant) {
                    self.asked.remove(&session);
                    self.desk.runtime.ready(session);
                    if owned_by_connection {
                        self.desk.streams.own(stream, session);
                    }
                }
                Ok(())
            }
            From::Quiesced(Quiesced { session, context }) => {
                let session = session_id(&session).map_err(Over::Refused)?;
                let given = context.as_deref().unwrap_or_default();
                if let Err(refusal) = self.desk.runtime.check_context(given) {
                    return self.refuse(session, &refusal).await;
                }
                if self.asked.get(&session) == Some(&Question::Quiesce) {
                    self.asked.remove(&session);
                    self.desk.runtime.quiesced(session, context);
                }
                Ok(())
            }
            From::Own(own) => {
                let session = session_id(&own.session).map_err(Over::Refused)?;
                let view = self.desk.runtime.view(session).await.ok().flatten();
                let is_ours = view.is_some_and(|view| {
                    view.is_here
                        && !view.record.is_terminated()
                        && view.service.as_deref() == Some(&self.service)
                });
                if !is_ours {
                    let refusal = Refusal::NoSession(session.to_string());
                    return self.refuse(session, &refusal).await;
                }
                self.desk.streams.own(stream, session);
                Ok(())
            }
            From::Disown(disown) => {
                let session = session_id(&disown.session).map_err(Over::Refused)?;
                self.desk.streams.disown(stream, session);
                Ok(())
            }
        }
    }

    async fn refuse(&self, session: SessionId, refusal: &Refusal) -> Result<(), Over> {
        let refused = Refused {
            session: bytes(session),
            reason: refusal::reason(refusal).into(),
            message: refusal.to_string(),
        };
        self.tell(Message::Refused(refused)).await
    }

    /// Waits for room: an application that writes and does not read waits for itself.
    async fn tell(&self, message: Message) -> Result<(), Over> {
        let told = self.outgoing.send(Ok(ToApplication { message: Some(message) })).await;
        told.map_err(|_| Over::Application)
    }

    async fn end(self, over: Over) {
        let stream = self.subscription.number();
        let sessions = self.desk.streams.end(stream);
        tracing::debug!(stream, service = self.service, "an application's stream is over");
        let last = match over {
            Over::Application => None,
            Over::GivenUp => {
                let message = "too many messages wait for an application that does not read";
                Some(status(Code::ResourceExhausted, Reason::Other, message))
            }
            Over::Refused(why) => Some(why),
            Over::Daemon => {
                let message = "the daemon stops; attach to its successor";
                let stops = status(Code::Unavailable, Reason::NodeStops, message);
                let _nobody_reads = self.outgoing.try_send(Err(stops));
                // The application is alive: it finds its sessions at the next daemon.
                return;
            }
        };
        losses::report(&self.desk, sessions);
        if let Some(status) = last {
            let _nobody_reads = self.outgoing.try_send(Err(status));
        }
    }
}

/// The next notice, once there is room to tell it; nothing if nobody listens.
async fn next<'a>(
    outgoing: &'a mpsc::Sender<Result<ToApplication, Status>>,
    subscription: &mut Subscription,
) -> Option<(Permit<'a, Result<ToApplication, Status>>, Option<Notice>)> {
    let permit = outgoing.reserve().await.ok()?;
    let told = tokio::select! {
        told = subscription.next() => told,
        () = outgoing.closed() => return None,
    };
    Some((permit, told))
}
