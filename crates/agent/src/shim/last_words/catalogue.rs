//! What programs print before they die, and what it says of why.
//!
//! Data, in the order in which it is looked at: the first entry whose words a line holds decides.
//! One that is unclear keeps the ones below it from deciding. Beside each group stands why.

use Meaning::{Says, Unclear};
use lindos_model::SymptomKind::{self, Device, Memory, Peer, Program, Storage};

/// Words, and what they say of whoever prints them.
pub type Sign = (&'static str, Meaning);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Says(SymptomKind),
    /// It is known, and mistakes cause it as well as faults.
    Unclear,
}

impl Meaning {
    pub fn kind(self) -> Option<SymptomKind> {
        match self {
            Says(kind) => Some(kind),
            Unclear => None,
        }
    }
}

/// Each of these alone says that the rank's own hardware failed, whatever is raised on the way out.
pub const FATAL: &[Sign] = &[
    // CUDA runtime API, cudaErrorECCUncorrectable (214) and its driver name, as XLA prints it.
    ("uncorrectable ECC error", Says(Device)),
    ("CUDA_ERROR_ECC_UNCORRECTABLE", Says(Device)),
    ("uncorrectable NVLink error", Says(Device)),
    // NVML_ERROR_GPU_IS_LOST, and the kernel's words for Xid 79.
    ("GPU is lost", Says(Device)),
    ("fallen off the bus", Says(Device)),
    // What NCCL says of its own InfiniBand device.
    ("local catastrophic error", Says(Device)),
    ("Got async event : port error", Says(Device)),
];

/// Looked for in the message of an exception, a panic or a C++ `what()`.
pub const PHRASES: &[Sign] = &[
    // A kernel checked its input and found it wrong: an index out of range, as a rule.
    ("device-side assert", Says(Program)),
    // A kernel's bad pointer is the common cause (CUDA runtime API, error 700). Broken hardware can
    // cause it too, but then findings (Xid, ECC) speak of the node, and weigh more than words.
    ("illegal memory access", Says(Program)),
    ("misaligned address", Says(Program)),
    // "Less common cases can be system specific" (error 719): it says nothing of whose fault it is.
    ("unspecified launch failure", Unclear),
    // Ranks are given as many GPUs as they are started with: one that is not there has gone.
    ("invalid device ordinal", Says(Device)),
    ("no CUDA-capable device", Says(Device)),
    ("No CUDA GPUs are available", Says(Device)),
    ("CUDA_ERROR_NO_DEVICE", Says(Device)),
    // Someone else's process holds a GPU that only one may use.
    ("devices are busy or unavailable", Says(Device)),
    // NVSwitch machines whose fabric manager does not run (802).
    ("system not yet initialized", Says(Device)),
    ("driver version is insufficient", Says(Device)),
    ("Found no NVIDIA driver", Says(Device)),
    ("libcuda.so", Says(Device)),
    ("CUDA error: unknown error", Says(Device)),
    // Memory, of the GPU and of the host: PyTorch, cuBLAS, XLA, the C++ library, numpy, Rust.
    ("out of memory", Says(Memory)),
    ("OUT_OF_MEMORY", Says(Memory)),
    ("RESOURCE_EXHAUSTED", Says(Memory)),
    ("CUBLAS_STATUS_ALLOC_FAILED", Says(Memory)),
    ("std::bad_alloc", Says(Memory)),
    ("Cannot allocate memory", Says(Memory)),
    ("can't allocate memory", Says(Memory)),
    ("insufficient shared memory", Says(Memory)),
    ("out of shared memory", Says(Memory)),
    // Files. Before the peers: an errno says it exactly. 107 is not here: sockets say it too.
    ("[Errno 5]", Says(Storage)),
    ("[Errno 28]", Says(Storage)),
    ("[Errno 30]", Says(Storage)),
    ("[Errno 116]", Says(Storage)),
    ("[Errno 117]", Says(Storage)),
    ("[Errno 121]", Says(Storage)),
    ("[Errno 122]", Says(Storage)),
    ("No space left on device", Says(Storage)),
    ("Input/output error", Says(Storage)),
    ("Stale file handle", Says(Storage)),
    ("Read-only file system", Says(Storage)),
    ("Disk quota exceeded", Says(Storage)),
    // torch.save on a disk that takes no more, and torch.load of what such a one has kept.
    ("PytorchStreamWriter failed writing", Says(Storage)),
    ("PytorchStreamReader failed", Says(Storage)),
    // A descriptor leak is the program's.
    ("[Errno 24]", Says(Program)),
    // NCCL's result codes (its header): wrong arguments are the caller's, and an internal error
    // may be anybody's.
    ("ncclInvalidUsage", Says(Program)),
    ("ncclInvalidArgument", Says(Program)),
    ("invalid usage", Says(Program)),
    ("ncclInternalError", Unclear),
    ("ncclUnhandledCudaError", Unclear),
    ("unhandled cuda error", Unclear),
    // NCCL: a socket to a peer, or its process; after the errors above, which it prints with them.
    ("ncclRemoteError", Says(Peer)),
    ("remote process exited", Says(Peer)),
    ("unhandled system error", Says(Peer)),
    ("ncclSystemError", Says(Peer)),
    ("Watchdog caught collective operation timeout", Says(Peer)),
    // Gloo, TCPStore and whatever speaks over sockets.
    ("Connection reset by peer", Says(Peer)),
    ("Connection closed by peer", Says(Peer)),
    ("Connection refused", Says(Peer)),
    ("Connection timed out", Says(Peer)),
    ("Broken pipe", Says(Peer)),
    ("No route to host", Says(Peer)),
    ("Timed out waiting", Says(Peer)),
    ("timed out waiting for", Says(Peer)),
    ("client socket has timed out", Says(Peer)),
    ("Socket Timeout", Says(Peer)),
    ("wait timeout after", Says(Peer)),
    // JAX's coordination service, by the codes of gRPC.
    ("DEADLINE_EXCEEDED", Says(Peer)),
    ("UNAVAILABLE:", Says(Peer)),
    ("heartbeat timeout", Says(Peer)),
    ("coordination service", Says(Peer)),
    // RuntimeErrors of PyTorch that only a program's shapes and types can raise.
    ("shapes cannot be multiplied", Says(Program)),
    ("size mismatch", Says(Program)),
    ("must match the size of tensor", Says(Program)),
    ("is invalid for input of size", Says(Program)),
    ("expected scalar type", Says(Program)),
    ("to have the same dtype", Says(Program)),
    ("tensors to be on the same device", Says(Program)),
    ("does not require grad", Says(Program)),
    ("loading state_dict", Says(Program)),
    ("modified by an inplace operation", Says(Program)),
    ("Expected to have finished reduction", Says(Program)),
];

/// Exceptions by the last part of their name, when no phrase has decided.
///
/// Not here, because broken files and missing mounts raise them as well as mistakes do:
/// FileNotFoundError, PermissionError, EOFError, UnicodeDecodeError, JSONDecodeError,
/// UnpicklingError; nor RuntimeError, which everything raises.
pub const TYPES: &[Sign] = &[
    ("AssertionError", Says(Program)),
    ("AttributeError", Says(Program)),
    ("FileExistsError", Says(Program)),
    ("FloatingPointError", Says(Program)),
    ("ImportError", Says(Program)),
    ("IndentationError", Says(Program)),
    ("IndexError", Says(Program)),
    ("IsADirectoryError", Says(Program)),
    ("KeyError", Says(Program)),
    ("ModuleNotFoundError", Says(Program)),
    ("NameError", Says(Program)),
    ("NotADirectoryError", Says(Program)),
    ("NotImplementedError", Says(Program)),
    ("OverflowError", Says(Program)),
    ("RecursionError", Says(Program)),
    ("StopIteration", Says(Program)),
    ("SyntaxError", Says(Program)),
    ("TabError", Says(Program)),
    ("TypeError", Says(Program)),
    ("UnboundLocalError", Says(Program)),
    ("ValueError", Says(Program)),
    ("ZeroDivisionError", Says(Program)),
    // jax: shapes and tracers.
    ("ConcretizationTypeError", Says(Program)),
    ("TracerArrayConversionError", Says(Program)),
    ("UnexpectedTracerError", Says(Program)),
    ("MemoryError", Says(Memory)),
    ("_ArrayMemoryError", Says(Memory)),
    ("OutOfMemoryError", Says(Memory)),
    ("BrokenPipeError", Says(Peer)),
    ("ConnectionAbortedError", Says(Peer)),
    ("ConnectionError", Says(Peer)),
    ("ConnectionRefusedError", Says(Peer)),
    ("ConnectionResetError", Says(Peer)),
    ("DistBackendError", Says(Peer)),
    ("DistNetworkError", Says(Peer)),
    ("DistStoreError", Says(Peer)),
    ("TimeoutError", Says(Peer)),
];

/// What the launchers of other processes raise when one of those has failed: no cause.
pub const ECHOES: &[&str] =
    &["ChildFailedError", "CalledProcessError", "ProcessRaisedException", "SignalException"];

/// Without a traceback: words with which a line says that, and why, its process ends.
pub const LAST_LINES: &[Sign] = &[
    ("Watchdog caught collective operation timeout", Says(Peer)),
    ("watchdog thread terminated with exception", Says(Peer)),
    // XLA and JAX, when the coordinator or another task went away.
    ("JAX distributed service detected fatal errors", Says(Peer)),
    ("Failed to send heartbeat to coordination service", Says(Peer)),
    // A kernel's own assertions, and those of C.
    ("Assertion `", Says(Program)),
    // argparse, with status 2.
    (": error: unrecognized arguments", Says(Program)),
    (": error: the following arguments are required", Says(Program)),
    (": error: argument ", Says(Program)),
    // Rust's allocator.
    ("memory allocation of ", Says(Memory)),
];

/// C++ exceptions that the compiler's own library raises, in the line of `terminate`. A
/// `std::runtime_error` says what it is in its `what()`, or nothing.
pub const TERMINATES: &[Sign] = &[
    ("std::bad_alloc", Says(Memory)),
    ("std::out_of_range", Says(Program)),
    ("std::invalid_argument", Says(Program)),
    ("std::logic_error", Says(Program)),
    ("std::length_error", Says(Program)),
    ("c10::DistBackendError", Says(Peer)),
    ("c10::OutOfMemoryError", Says(Memory)),
];
