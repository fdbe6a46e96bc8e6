//! What became of a packet: one verdict each, counted per CPU and service.

macro_rules! verdicts {
    ($(#[$meta:meta])* $name:ident, $count:ident { $($(#[doc = $doc:literal])+ $variant:ident = $value:literal => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        // As wide as a register: LLVM copies the padding around a smaller one in odd pieces, which
        // the verifier refuses.
        #[repr(u64)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant = $value,)+
        }

        impl $name {
            /// All values, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name used by the command line, metrics and documents.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// One sentence for people.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }

        const _: () = {
            let mut code = 0;
            while code < $name::ALL.len() {
                assert!($name::ALL[code] as usize == code, "codes are dense");
                code += 1;
            }
            assert!($name::ALL.len() <= $count);
        };
    };
}

pub(crate) use verdicts;

/// Room for verdicts in the counter array; a power of two.
pub const VERDICT_SLOTS: usize = 64;

/// Room for admissions in the counter array; a power of two.
pub const ADMISSION_SLOTS: usize = 16;

/// Room for what becomes of replies in the counter array; a power of two.
pub const EGRESS_SLOTS: usize = 16;

/// Room for transmissions in the counters of AF_XDP; a power of two.
pub const TRANSMISSION_SLOTS: usize = 16;

verdicts! {
/// What the XDP program did with a packet. The code is the index of its counter.
Verdict, VERDICT_SLOTS {
    /// Not for a service: passed to the kernel untouched.
    Pass = 0 => "pass",
    /// Sent to the session's CPU on this node, which owns it.
    Local = 1 => "local",
    /// Opens a session in a slot of this node: sent to an application here.
    New = 2 => "new",
    /// Forwarded to the owner of its slot.
    ForwardSlot = 3 => "forward-slot",
    /// Forwarded to the node that an off-home row names.
    ForwardRow = 4 => "forward-row",
    /// Unknown here and the slot is moving: forwarded to the slot's previous owner.
    SecondChance = 5 => "second-chance",
    /// Headers end before the frame does, or contradict each other.
    Malformed = 6 => "malformed",
    /// A fragment of an IP packet: it holds no session id that could be trusted.
    Fragment = 7 => "fragment",
    /// More IPv6 extension headers than are followed.
    ExtensionHeaders = 8 => "extension-headers",
    /// The UDP payload is too short, or its protocol is not the service's.
    NoWireId = 9 => "no-wire-id",
    /// No session has this id: its slot's owner says so, and nobody else could know better.
    NoSession = 10 => "no-session",
    /// The slot's previous owner does not know the session either.
    SecondChanceMissed = 11 => "second-chance-missed",
    /// This slot has no owner.
    NoOwner = 12 => "no-owner",
    /// The lease has run out: this node may not deliver.
    FenceShut = 13 => "fence-shut",
    /// The entry belongs to an earlier epoch of this node.
    EntryEpoch = 14 => "entry-epoch",
    /// The entry was being replaced while it was read.
    EntryTorn = 15 => "entry-torn",
    /// No next hop to the node is known.
    NoNextHop = 16 => "no-next-hop",
    /// The packet would not fit the link with the encapsulation around it; its sender could not be
    /// told, or others were told too often just now.
    TooBig = 17 => "too-big",
    /// The driver left too little room in front of the frame.
    NoHeadroom = 18 => "no-headroom",
    /// Would be forwarded again without newer knowledge than its sender had.
    NotNewer = 19 => "not-newer",
    /// Forwarded too often.
    HopLimit = 20 => "hop-limit",
    /// A forwarded packet whose shim is cut short or of another version.
    ShimMalformed = 21 => "shim-malformed",
    /// A forwarded packet whose outer source is not the node that its shim names.
    ShimSender = 22 => "shim-sender",
    /// A forwarded packet on an interface where that node does not live.
    ShimInterface = 23 => "shim-interface",
    /// A forwarded packet for an earlier epoch of this node.
    ShimEpochOld = 24 => "shim-epoch-old",
    /// A forwarded packet for a later epoch of this node: another incarnation owns its sessions.
    ShimEpochNew = 25 => "shim-epoch-new",
    /// A forwarded packet with an older version of the session than is known here.
    ShimVersionOld = 26 => "shim-version-old",
    /// A forwarded packet with a newer version of the session than is known here.
    ShimVersionNew = 27 => "shim-version-new",
    /// A forwarded packet that this node could only claim by a placement older than its sender's.
    PlacementOld = 28 => "placement-old",
    /// The program's own tables are not filled yet.
    NotReady = 29 => "not-ready",
    /// No CPU is configured to deliver to.
    NoCpu = 30 => "no-cpu",
    /// The packet would not fit the link with the encapsulation around it, and its sender was told.
    TooBigAnswered = 31 => "too-big-answered",
    /// An ICMP error about a session of this node: sent to the session's CPU.
    IcmpLocal = 32 => "icmp-local",
    /// An ICMP error about a session of another node: forwarded there.
    IcmpForward = 33 => "icmp-forward",
    /// An ICMP error about a packet of a service that does not tell its session, to a client that no
    /// session of this node is bound to: left to the kernel of the node where it arrived.
    IcmpUnknown = 34 => "icmp-unknown",
    /// Too many of its kind come from the same source prefix.
    RateLimited = 35 => "rate-limited",
    /// No AF_XDP socket serves the receive queue that the packet came by.
    NoXsk = 36 => "no-xsk",
    /// From another address or port than the one that its session is bound to.
    TransportOld = 37 => "transport-old",
    /// Its session is bound to no client at present: one has to attach again first.
    Unbound = 38 => "unbound",
    /// Its session is on its way to another node or from it: kept, to be delivered there or here.
    Held = 39 => "held",
    /// Its session is on its way, and the hold ring has no room: dropped.
    HoldFull = 40 => "hold-full",
    /// Its session is on its way, and the packet is too long for the hold ring: dropped.
    HoldTooLong = 41 => "hold-too-long",
    /// About a session that is not known in its slot, which is this node's: sent to the control port, whose
    /// answer says so.
    ControlUnknown = 42 => "control-unknown",
}
}

verdicts! {
/// What the socket selector did with a datagram at the end of its CPU queue, or an AF_XDP receiver
/// at the end of its ring.
Admission, ADMISSION_SLOTS {
    /// Delivered to the socket of the session's CPU.
    Delivered = 0 => "delivered",
    /// Delivered without an entry: as the start of a session, or to a control port, which answers that there
    /// is none.
    DeliveredNew = 1 => "delivered-new",
    /// Delivered, but it was processed on another CPU than the session's.
    WrongCpu = 2 => "wrong-cpu",
    /// Came out of the queue after the lease's deadline, by the exact clock: dropped.
    Late = 3 => "late",
    /// The session is no longer this node's, its entry is of an earlier epoch, or that or its binding
    /// was being replaced: dropped.
    NotOwner = 4 => "not-owner",
    /// No wire id could be read: dropped.
    NoWireId = 5 => "no-wire-id",
    /// No service has this address and port: dropped.
    NoService = 6 => "no-service",
    /// The application gave no socket for this CPU: dropped.
    NoSocket = 7 => "no-socket",
    /// The program's own tables are not filled yet: dropped.
    NotReady = 8 => "not-ready",
    /// The checksum is wrong, as AF_XDP receivers see it (for sockets the kernel counts it): dropped.
    BadChecksum = 9 => "bad-checksum",
    /// A marker of the daemon, which shows that what was in the queue before it has been read.
    Marker = 10 => "marker",
    /// From another address or port than the one that its session is bound to by now: dropped.
    TransportOld = 11 => "transport-old",
    /// Its session is bound to no client by now: dropped.
    Unbound = 12 => "unbound",
}
}

verdicts! {
/// What an AF_XDP sender did with a datagram of its application.
Transmission, TRANSMISSION_SLOTS {
    /// Given to the interface.
    Sent = 0 => "sent",
    /// The lease had run out, by the exact clock: not sent.
    Late = 1 => "send-late",
    /// The session is not this node's, or its entry is of an earlier epoch: not sent.
    NotOwner = 2 => "send-not-owner",
    /// The client's packet came from another node and no way back is known: not sent.
    NoNextHop = 3 => "send-no-next-hop",
    /// The packet would be longer than the interface's MTU: not sent.
    TooBig = 4 => "send-too-big",
    /// All frames for sending are on their way: not sent.
    NoFrame = 5 => "send-no-frame",
}
}

verdicts! {
/// What the program at egress did with a packet that this node sends.
Egress, EGRESS_SLOTS {
    /// Not from a service: passed on untouched.
    Other = 0 => "other",
    /// A service's reply: passed on.
    Passed = 1 => "passed",
    /// The lease has run out, by the exact clock: dropped.
    Shut = 2 => "shut",
    /// The session that it names, or whose client it goes to, is another node's: dropped.
    NotOwner = 3 => "not-owner",
    /// No session has the id that it names, or is bound to the client that it goes to: dropped.
    NoSession = 4 => "no-session",
    /// The session's entry belongs to an earlier epoch of this node: dropped.
    OldEpoch = 5 => "old-epoch",
    /// The session's entry was being replaced while it was read: dropped.
    Torn = 6 => "torn",
    /// A reply of the native protocol in which no session is named: dropped.
    NoWireId = 7 => "no-wire-id",
    /// The segments of a large send (UDP_SEGMENT) name different sessions: dropped.
    Mixed = 8 => "mixed-sessions",
    /// UDP from a service's address with headers that cannot be followed, or any packet whose headers
    /// the kernel had no memory to bring into one piece: dropped.
    Unreadable = 9 => "unreadable",
    /// The program's own tables are not filled yet: dropped.
    NotReady = 10 => "not-ready",
}
}

/// How grave a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody pretends to be a node or another client, or knows what contradicts this node's
    /// ownership.
    Security,
    /// The rules refuse it: nothing is wrong with the node.
    Policy,
}

impl Class {
    /// The name that the ownership model gives such events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Security => "SECURITY_EVENT",
            Self::Policy => "POLICY_EVENT",
        }
    }
}

impl Egress {
    /// Whether the packet may leave.
    #[inline(always)]
    pub const fn is_sent(self) -> bool {
        matches!(self, Self::Other | Self::Passed)
    }

    /// How grave a drop is.
    pub const fn class(self) -> Class {
        Class::Policy
    }
}

impl Admission {
    /// Whether the datagram was dropped.
    pub const fn is_reject(self) -> bool {
        !matches!(self, Self::Delivered | Self::DeliveredNew | Self::WrongCpu | Self::Marker)
    }

    /// How grave a drop is.
    pub const fn class(self) -> Class {
        match self {
            Self::TransportOld => Class::Security,
            _ => Class::Policy,
        }
    }
}

impl Verdict {
    /// How grave a refusal is.
    pub const fn class(self) -> Class {
        match self {
            Self::ShimMalformed
            | Self::ShimSender
            | Self::ShimInterface
            | Self::ShimEpochNew
            | Self::ShimVersionNew
            | Self::TransportOld => Class::Security,
            _ => Class::Policy,
        }
    }

    /// Whether the packet was refused: neither passed, nor delivered, nor forwarded, nor held.
    pub const fn is_reject(self) -> bool {
        !matches!(
            self,
            Self::Pass
                | Self::Local
                | Self::New
                | Self::ForwardSlot
                | Self::ForwardRow
                | Self::SecondChance
                | Self::IcmpLocal
                | Self::IcmpForward
                | Self::IcmpUnknown
                | Self::Held
                | Self::ControlUnknown
        )
    }
}
