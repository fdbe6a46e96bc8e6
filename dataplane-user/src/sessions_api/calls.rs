//! The calls, one by one.

use super::{
    MESSAGE_MAX, PAGE_MAX,
    allowed::{Allowed, Caller},
    attach::{self, FIRST},
    convert::{bytes, client, session, session_id},
    losses,
    proto::{
        self, AddWireIdRequest, AddWireIdResponse, BindRequest, BindResponse, FromApplication,
        GetRequest, GetResponse, ListRequest, ListResponse, MintRequest, MintResponse, OpenRequest,
        OpenResponse, PutContextRequest, PutContextResponse, Reason, RemoveWireIdRequest,
        RemoveWireIdResponse, ReportTransportLossRequest, ReportTransportLossResponse,
        TerminateRequest, TerminateResponse, ToApplication, from_application,
        sessions_server::Sessions,
    },
    refusal::{bad, refused, status},
    streams::{STREAMS, Streams},
};
use crate::{
    node::Refusal,
    runtime::{Open, Runtime, SessionView, Unchanged},
};
use futures_util::stream::BoxStream;
use ownership::{SessionId, model::Cause};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::{
    Code, Extensions, Request, Response, Status, Streaming, transport::server::TlsConnectInfo,
};

/// What all calls share.
pub(super) struct Desk {
    pub(super) runtime: Arc<Runtime>,
    pub(super) allowed: Allowed,
    pub(super) streams: Streams,
    /// Becomes `true` when the server stops.
    pub(super) stops: watch::Receiver<bool>,
}

/// Waits until the server stops.
pub(super) async fn stopped(mut stops: watch::Receiver<bool>) {
    let _stopped_or_gone = stops.wait_for(|stops| *stops).await;
}

/// The service.
#[derive(Clone)]
pub(super) struct Calls(pub(super) Arc<Desk>);

impl Calls {
    /// That the caller may use a service.
    fn check_service(&self, caller: Caller, service: &str) -> Result<(), Status> {
        let allowed = &self.0.allowed;
        if !allowed.knows(service) {
            let message = format!("there is no service {service:?} on this node");
            return Err(status(Code::NotFound, Reason::NoService, message));
        }
        if !allowed.allows(caller, service) {
            return Err(not_allowed(caller, service));
        }
        Ok(())
    }

    /// A session that the caller may use.
    async fn view(&self, caller: Caller, session: SessionId) -> Result<SessionView, Status> {
        let view = self.0.runtime.view(session).await;
        let view = view.map_err(|fault| refused(&Unchanged::from(fault).into()))?;
        let unknown = || refused(&Refusal::NoSession(session.to_string()));
        let view = view.ok_or_else(unknown)?;
        let service = view.service.as_deref().ok_or_else(unknown)?;
        self.check_service(caller, service)?;
        Ok(view)
    }

    /// A session of this node that the caller may use.
    async fn owned(&self, caller: Caller, id: &[u8]) -> Result<SessionId, Status> {
        let session = session_id(id)?;
        let view = self.view(caller, session).await?;
        if !view.is_here || view.record.is_terminated() {
            return Err(refused(&Refusal::NoSession(session.to_string())));
        }
        Ok(session)
    }

    /// Does something to its end, even if the caller hangs up meanwhile: nothing is left half done.
    async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Status> {
        match tokio::spawn(work).await {
            Ok(done) => done.map_err(|refusal| refused(&refusal)),
            Err(panic) => {
                tracing::error!(%panic, "a call of the Sessions API failed");
                Err(status(Code::Internal, Reason::Other, "the daemon has failed; see its log"))
            }
        }
    }

    fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(&self.0.runtime)
    }
}

#[tonic::async_trait]
impl Sessions for Calls {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        let (caller, asked) = parts(request)?;
        self.check_service(caller, &asked.service)?;
        let client = client(&asked.client)?;
        debug_assert!(self.0.runtime.context_limit().bytes() < MESSAGE_MAX);
        let stream = asked.owned_by_connection.then_some(asked.stream);
        if let Some(stream) =
            stream.filter(|&stream| !self.0.streams.is_open(stream, &asked.service))
        {
            return Err(no_stream(stream, &asked.service));
        }
        let OpenRequest { service, cpu, context, .. } = asked;
        let desk = Arc::clone(&self.0);
        let opened = self.whole(async move {
            let opened = desk.runtime.open(Open { service, cpu, client, context }).await?;
            let is_lost = stream.is_some_and(|stream| !desk.streams.own(stream, opened.session));
            if is_lost {
                losses::report(&desk, vec![opened.session]);
            }
            Ok(opened)
        });
        let opened = opened.await?;
        Ok(Response::new(OpenResponse {
            session: bytes(opened.session),
            epoch: opened.epoch.get(),
            version: opened.version.get(),
            credentials: opened.credentials.bytes().to_vec(),
        }))
    }

    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        let (caller, asked) = parts(request)?;
        let client = client(&asked.client)?.ok_or_else(|| bad("`client` is missing"))?;
        let session = self.owned(caller, &asked.session).await?;
        let runtime = self.runtime();
        let version = self.whole(async move { runtime.bind(session, client).await }).await?;
        Ok(Response::new(BindResponse { version: version.get() }))
    }

    async fn report_transport_loss(
        &self,
        request: Request<ReportTransportLossRequest>,
    ) -> Result<Response<ReportTransportLossResponse>, Status> {
        let (caller, asked) = parts(request)?;
        let client = client(&asked.client)?;
        let session = self.owned(caller, &asked.session).await?;
        let runtime = self.runtime();
        let version = self.whole(async move { runtime.lose(session, client).await }).await?;
        Ok(Response::new(ReportTransportLossResponse { version: version.get() }))
    }

    async fn terminate(
        &self,
        request: Request<TerminateRequest>,
    ) -> Result<Response<TerminateResponse>, Status> {
        let (caller, asked) = parts(request)?;
        let session = self.owned(caller, &asked.session).await?;
        let runtime = self.runtime();
        self.whole(async move { runtime.terminate(session, Cause::Request).await }).await?;
        Ok(Response::new(TerminateResponse {}))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (caller, asked) = parts(request)?;
        let view = self.view(caller, session_id(&asked.session)?).await?;
        Ok(Response::new(GetResponse { session: Some(session(view, true)) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let (caller, asked) = parts(request)?;
        if !asked.service.is_empty() {
            self.check_service(caller, &asked.service)?;
        }
        let after = match &asked.after[..] {
            [] => None,
            after => Some(session_id(after)?),
        };
        let limit = match asked.limit {
            0 => PAGE_MAX,
            limit if limit as usize <= PAGE_MAX => limit as usize,
            limit => return Err(bad(format!("a page has 1 to {PAGE_MAX} sessions, not {limit}"))),
        };
        let views = self.0.runtime.views(after, limit);
        let last = views.last().map(|view| bytes(view.record.id()));
        let is_wanted = |view: &SessionView| {
            view.service.as_deref().is_some_and(|service| {
                (asked.service.is_empty() || asked.service == service)
                    && self.0.allowed.allows(caller, service)
            })
        };
        let next = last.filter(|_| views.len() == limit).unwrap_or_default();
        let sessions = views.into_iter().filter(is_wanted).map(|view| session(view, false));
        Ok(Response::new(ListResponse { sessions: sessions.collect(), next }))
    }

    async fn put_context(
        &self,
        request: Request<PutContextRequest>,
    ) -> Result<Response<PutContextResponse>, Status> {
        let (caller, asked) = parts(request)?;
        let session = self.owned(caller, &asked.session).await?;
        let runtime = self.runtime();
        self.whole(async move { runtime.put_context(session, asked.context).await }).await?;
        Ok(Response::new(PutContextResponse {}))
    }

    async fn mint(&self, request: Request<MintRequest>) -> Result<Response<MintResponse>, Status> {
        let (caller, asked) = parts(request)?;
        let session = self.owned(caller, &asked.session).await?;
        let runtime = self.runtime();
        let wire_id = self.whole(async move { runtime.mint(session).await }).await?;
        Ok(Response::new(MintResponse { wire_id }))
    }

    async fn add_wire_id(
        &self,
        request: Request<AddWireIdRequest>,
    ) -> Result<Response<AddWireIdResponse>, Status> {
        let (caller, asked) = parts(request)?;
        let session = self.owned(caller, &asked.session).await?;
        let runtime = self.runtime();
        self.whole(
            async move { runtime.add_wire_id(session, &asked.wire_id, asked.off_home).await },
        )
        .await?;
        Ok(Response::new(AddWireIdResponse {}))
    }

    async fn remove_wire_id(
        &self,
        request: Request<RemoveWireIdRequest>,
    ) -> Result<Response<RemoveWireIdResponse>, Status> {
        let (caller, asked) = parts(request)?;
        let session = self.owned(caller, &asked.session).await?;
        let runtime = self.runtime();
        self.whole(async move { runtime.remove_wire_id(session, &asked.wire_id).await }).await?;
        Ok(Response::new(RemoveWireIdResponse {}))
    }

    type AttachStream = BoxStream<'static, Result<ToApplication, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<FromApplication>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (caller, mut incoming) = parts(request)?;
        let first = tokio::time::timeout(FIRST, incoming.message()).await;
        let first = first.unwrap_or(Ok(None))?.and_then(|first| first.message);
        let Some(from_application::Message::Begin(proto::Begin { service })) = first else {
            let message = "the first message of a stream is Begin";
            return Err(status(Code::InvalidArgument, Reason::OutOfOrder, message));
        };
        self.check_service(caller, &service)?;
        let subscription =
            self.0.runtime.subscribe(&service).map_err(|refusal| refused(&refusal))?;
        let number = subscription.number();
        self.0.streams.begin(number, &service).map_err(|_| {
            let message = format!("{STREAMS} streams are open, the most; end some");
            status(Code::ResourceExhausted, Reason::TooManyStreams, message)
        })?;
        let desk = Arc::clone(&self.0);
        Ok(Response::new(attach::begin(desk, service, subscription, incoming)))
    }
}

/// Who asks, and what.
fn parts<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    let (_, extensions, asked) = request.into_parts();
    Ok((caller(&extensions)?, asked))
}

fn caller(extensions: &Extensions) -> Result<Caller, Status> {
    let secure = || extensions.get::<TlsConnectInfo<Caller>>().map(|info| *info.get_ref());
    let caller = extensions.get().copied().or_else(secure);
    caller.ok_or_else(|| status(Code::Internal, Reason::Other, "nobody knows who asks"))
}

fn not_allowed(caller: Caller, service: &str) -> Status {
    let message = match caller {
        Caller::User(user) => format!(
            "user {user} may not use service {service:?}: it is not in the service's `users`"
        ),
        Caller::Certified => {
            format!("service {service:?} cannot be used over TCP, as it has `users`")
        }
    };
    status(Code::PermissionDenied, Reason::NotAllowed, message)
}

fn no_stream(stream: u64, service: &str) -> Status {
    let message = format!("no stream {stream} of service {service:?} is open: attach first");
    status(Code::FailedPrecondition, Reason::NoStream, message)
}
