//! The running-process crate in one role at a time:
//!
//! peer client BROKER SERVICE VERSION adopt|reconnect LINE
//! peer backend PIPE HANDOFF
//! peer broker SOCKET SERVICE VERSION PIPE HANDOFF|-
//! peer (started by a broker: a backend without handoffs, where its environment says)
//!
//! A client prints its route and the answer. A backend answers each line with "LINE done"
//! on PIPE, and on what is handed over to it at HANDOFF. A broker knows one backend.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use running_process::broker::backend_handle::DaemonProcess;
use running_process::broker::backend_lib::wire::{read_handoff_offer, respond_to_handoff_offer};
use running_process::broker::backend_sdk::{BackendEndpointMux, LegacyClassification, MuxPoll};
use running_process::broker::client::{connect_to_backend, ConnectBackendRequest};
use running_process::broker::protocol::{BrokerIsolation, Endpoint, ServiceDefinition};
use running_process::broker::server::admin::AdminSnapshot;
use running_process::broker::server::control_socket::serve_control_socket_connections_with_limit_policy_and_post_hello;
use running_process::broker::server::handoff_serve::{try_complete_negotiated_handoff, ServeHandoffContext};
use running_process::broker::server::{
    BackendRegistry, BrokerInstanceKey, ControlSocketConnectionLimit, HandoffToken, HandoffTokenStore, HelloHandler,
    PeerCredentialPolicy, RegisteredBackend,
};

type Outcome = Result<(), Box<dyn Error>>;

const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["client", broker, service, version, how, line] => client(broker, service, version, *how == "adopt", line),
        ["backend", pipe, handoff] => backend(pipe, handoff),
        ["broker", socket, service, version, pipe, handoff] => broker(socket, service, version, pipe, handoff),
        [] => launched(),
        _ => Err("no role; see main.rs".into()),
    }
}

fn client(broker: &str, service: &str, version: &str, adopt: bool, line: &str) -> Outcome {
    let mut request = ConnectBackendRequest::new(broker, service, version, "0.0.0");
    request.adopt_handed_off_connection = adopt;
    let connection = connect_to_backend(request)?;
    let mut stream = connection.stream;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    print!("{:?} {answer}", connection.route);
    Ok(())
}

fn backend(pipe: &str, handoff: &str) -> Outcome {
    let handoffs = UnixListener::bind(handoff)?;
    let own = UnixListener::bind(pipe)?;
    thread::spawn(move || {
        for broker in handoffs.incoming() {
            report(broker.map_err(Into::into).and_then(take_handoff));
        }
    });
    serve_all(own, "shared", pipe)
}

/// A backend as a broker starts it, with the listening socket if there is one.
fn launched() -> Outcome {
    let pipe = std::env::var("RUNNING_PROCESS_BROKER_V1_BACKEND_PIPE")?;
    let namespace = std::env::var("RUNNING_PROCESS_BROKER_V1_BACKEND_NAMESPACE")?;
    let own = match std::env::var("RUNNING_PROCESS_BROKER_LISTENER_FD") {
        // SAFETY: the broker says that the descriptor is a listening socket and ours.
        Ok(fd) => unsafe { UnixListener::from_raw_fd(fd.parse()?) },
        Err(_) => UnixListener::bind(&pipe)?,
    };
    own.set_nonblocking(false)?;
    serve_all(own, &namespace, &pipe)
}

fn serve_all(own: UnixListener, namespace: &str, pipe: &str) -> Outcome {
    let endpoint = Endpoint { namespace_id: namespace.into(), path: pipe.into() };
    let daemon = DaemonProcess::current_process(endpoint, None)?;
    for stream in own.incoming() {
        let (stream, daemon) = (stream?, daemon.clone());
        thread::spawn(move || report(serve(stream, &daemon)));
    }
    Ok(())
}

fn report(outcome: Outcome) {
    if let Err(e) = outcome {
        eprintln!("{e}");
    }
}

/// Serves the backend's own socket: identity probes, and lines.
fn serve(mut stream: UnixStream, daemon: &DaemonProcess) -> Outcome {
    let mux = BackendEndpointMux::new(daemon.clone(), &[], |buffer| match buffer.first() {
        None => LegacyClassification::NeedMoreBytes,
        Some(1) => LegacyClassification::NotLegacy,
        Some(_) => LegacyClassification::Legacy,
    });
    let mut buffer = Vec::new();
    loop {
        match mux.poll(&buffer)? {
            MuxPoll::Legacy => return answer_lines(io::Cursor::new(buffer).chain(stream.try_clone()?), stream),
            MuxPoll::ProbeAnswered { reply, consumed } => {
                stream.write_all(&reply)?;
                buffer.drain(..consumed);
            }
            _ => {
                let mut more = [0; 4096];
                match stream.read(&mut more)? {
                    0 => return Ok(()),
                    n => buffer.extend_from_slice(&more[..n]),
                }
            }
        }
    }
}

fn answer_lines(from: impl Read, mut to: UnixStream) -> Outcome {
    for line in BufReader::new(from).lines() {
        to.write_all(format!("{} done\n", line?).as_bytes())?;
    }
    Ok(())
}

/// Takes one connection as the crate's own helpers have it: 16 bytes and a descriptor, an
/// offer, an ACK. The bytes beside the descriptor are the token to expect.
fn take_handoff(mut broker: UnixStream) -> Outcome {
    broker.set_read_timeout(Some(TIMEOUT))?;
    let (connection, bytes) = receive(&broker)?;
    let offer = read_handoff_offer(&mut broker)?;
    let now = Instant::now();
    let mut store = HandoffTokenStore::new();
    let token: HandoffToken = store.issue_with_random128(now, || Ok(bytes))?;
    if respond_to_handoff_offer(&mut broker, &mut store, token, offer, now)?.is_accepted() {
        let connection = UnixStream::from(connection);
        connection.set_nonblocking(false)?;
        thread::spawn(move || report(connection.try_clone().map_err(Into::into).and_then(|from| answer_lines(from, connection))));
    }
    Ok(())
}

fn receive(from: &UnixStream) -> io::Result<(OwnedFd, [u8; 16])> {
    let mut bytes = [0u8; 16];
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all pointers are to locals that outlive the call, with their sizes; the
    // descriptor is new and nobody else's.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = std::mem::size_of_val(&control);
        let n = libc::recvmsg(from.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_WAITALL);
        let header = libc::CMSG_FIRSTHDR(&message);
        if n != 16 || header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::Error::other("no token with a descriptor"));
        }
        let fd = libc::CMSG_DATA(header).cast::<i32>().read_unaligned();
        Ok((OwnedFd::from_raw_fd(fd), bytes))
    }
}

fn broker(socket: &str, service: &str, version: &str, pipe: &str, handoff: &str) -> Outcome {
    let definition = ServiceDefinition {
        service_name: service.into(),
        binary_path: std::env::current_exe()?.to_string_lossy().into(),
        isolation: BrokerIsolation::SharedBroker as i32,
        ..Default::default()
    };
    let instance = BrokerInstanceKey::from_service_definition(&definition)?;
    let handler = HelloHandler::new().with_backend(RegisteredBackend {
        service_definition: definition,
        daemon_version: version.into(),
        backend_pipe: pipe.into(),
        server_capabilities: 0,
    })?;
    let registry = Mutex::new(BackendRegistry::new());
    let began = Instant::now();
    serve_control_socket_connections_with_limit_policy_and_post_hello(
        socket,
        &handler,
        || AdminSnapshot::from_registry(instance.id(), began.elapsed(), true, 0, &registry.lock().unwrap(), &[]),
        ControlSocketConnectionLimit::Unbounded,
        &PeerCredentialPolicy::current_user().ok_or("no current user")?,
        |stream, reply| {
            if handoff != "-" {
                let context = ServeHandoffContext {
                    handoff_endpoint: handoff,
                    service_name: service,
                    service_version: version,
                    instance: &instance,
                    registry: &registry,
                };
                let _ = try_complete_negotiated_handoff(&context, stream, reply);
            }
        },
    )?;
    Ok(())
}
