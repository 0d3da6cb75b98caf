//! What programs print before they die, and what it says of why.
//!
//! Data, in the order in which it is looked at: the first entry whose words a line holds decides.
//! An entry without a kind keeps the ones below it from deciding. Beside each group stands why.

use lindos_model::SymptomKind::{self, Device, Memory, Peer, Program, Storage};

/// Words, and what they say of whoever prints them.
pub type Sign = (&'static str, Option<SymptomKind>);

/// Each of these alone says that the rank's own hardware failed, whatever is raised on the way out.
pub const FATAL: &[Sign] = &[
    // CUDA runtime API, cudaErrorECCUncorrectable (214) and its driver name, as XLA prints it.
    ("uncorrectable ECC error", Some(Device)),
    ("CUDA_ERROR_ECC_UNCORRECTABLE", Some(Device)),
    ("uncorrectable NVLink error", Some(Device)),
    // NVML_ERROR_GPU_IS_LOST, and the kernel's words for Xid 79.
    ("GPU is lost", Some(Device)),
    ("fallen off the bus", Some(Device)),
    // What NCCL says of its own InfiniBand device.
    ("local catastrophic error", Some(Device)),
    ("Got async event : port error", Some(Device)),
];

/// Looked for in the message of an exception, a panic or a C++ `what()`.
pub const PHRASES: &[Sign] = &[
    // A kernel checked its input and found it wrong: an index out of range, as a rule.
    ("device-side assert", Some(Program)),
    // A kernel's bad pointer is the common cause (CUDA runtime API, error 700). Broken hardware can
    // cause it too, but then findings (Xid, ECC) speak of the node, and weigh more than words.
    ("illegal memory access", Some(Program)),
    ("misaligned address", Some(Program)),
    // "Less common cases can be system specific" (error 719): it says nothing of whose fault it is.
    ("unspecified launch failure", None),
    // Ranks are given as many GPUs as they are started with: one that is not there has gone.
    ("invalid device ordinal", Some(Device)),
    ("no CUDA-capable device", Some(Device)),
    ("No CUDA GPUs are available", Some(Device)),
    ("CUDA_ERROR_NO_DEVICE", Some(Device)),
    // Someone else's process holds a GPU that only one may use.
    ("devices are busy or unavailable", Some(Device)),
    // NVSwitch machines whose fabric manager does not run (802).
    ("system not yet initialized", Some(Device)),
    ("driver version is insufficient", Some(Device)),
    ("Found no NVIDIA driver", Some(Device)),
    ("libcuda.so", Some(Device)),
    ("CUDA error: unknown error", Some(Device)),
    // Memory, of the GPU and of the host: PyTorch, cuBLAS, XLA, the C++ library, numpy, Rust.
    ("out of memory", Some(Memory)),
    ("OUT_OF_MEMORY", Some(Memory)),
    ("RESOURCE_EXHAUSTED", Some(Memory)),
    ("CUBLAS_STATUS_ALLOC_FAILED", Some(Memory)),
    ("std::bad_alloc", Some(Memory)),
    ("Cannot allocate memory", Some(Memory)),
    ("can't allocate memory", Some(Memory)),
    ("insufficient shared memory", Some(Memory)),
    ("out of shared memory", Some(Memory)),
    // Files. Before the peers: an errno says it exactly. 107 is not here: sockets say it too.
    ("[Errno 5]", Some(Storage)),
    ("[Errno 28]", Some(Storage)),
    ("[Errno 30]", Some(Storage)),
    ("[Errno 116]", Some(Storage)),
    ("[Errno 117]", Some(Storage)),
    ("[Errno 121]", Some(Storage)),
    ("[Errno 122]", Some(Storage)),
    ("No space left on device", Some(Storage)),
    ("Input/output error", Some(Storage)),
    ("Stale file handle", Some(Storage)),
    ("Read-only file system", Some(Storage)),
    ("Disk quota exceeded", Some(Storage)),
    // torch.save on a disk that takes no more, and torch.load of what such a one has kept.
    ("PytorchStreamWriter failed writing", Some(Storage)),
    ("PytorchStreamReader failed", Some(Storage)),
    // A descriptor leak is the program's.
    ("[Errno 24]", Some(Program)),
    // NCCL's result codes (its header): wrong arguments are the caller's, and an internal error
    // may be anybody's.
    ("ncclInvalidUsage", Some(Program)),
    ("ncclInvalidArgument", Some(Program)),
    ("invalid usage", Some(Program)),
    ("ncclInternalError", None),
    ("ncclUnhandledCudaError", None),
    ("unhandled cuda error", None),
    // NCCL: a socket to a peer, or its process; after the errors above, which it prints with them.
    ("ncclRemoteError", Some(Peer)),
    ("remote process exited", Some(Peer)),
    ("unhandled system error", Some(Peer)),
    ("ncclSystemError", Some(Peer)),
    ("Watchdog caught collective operation timeout", Some(Peer)),
    // Gloo, TCPStore and whatever speaks over sockets.
    ("Connection reset by peer", Some(Peer)),
    ("Connection closed by peer", Some(Peer)),
    ("Connection refused", Some(Peer)),
    ("Connection timed out", Some(Peer)),
    ("Broken pipe", Some(Peer)),
    ("No route to host", Some(Peer)),
    ("Timed out waiting", Some(Peer)),
    ("timed out waiting for", Some(Peer)),
    ("client socket has timed out", Some(Peer)),
    ("Socket Timeout", Some(Peer)),
    ("wait timeout after", Some(Peer)),
    // JAX's coordination service, by the codes of gRPC.
    ("DEADLINE_EXCEEDED", Some(Peer)),
    ("UNAVAILABLE:", Some(Peer)),
    ("heartbeat timeout", Some(Peer)),
    ("coordination service", Some(Peer)),
    // RuntimeErrors of PyTorch that only a program's shapes and types can raise.
    ("shapes cannot be multiplied", Some(Program)),
    ("size mismatch", Some(Program)),
    ("must match the size of tensor", Some(Program)),
    ("is invalid for input of size", Some(Program)),
    ("expected scalar type", Some(Program)),
    ("to have the same dtype", Some(Program)),
    ("tensors to be on the same device", Some(Program)),
    ("does not require grad", Some(Program)),
    ("loading state_dict", Some(Program)),
    ("modified by an inplace operation", Some(Program)),
    ("Expected to have finished reduction", Some(Program)),
];

/// Exceptions by the last part of their name, when no phrase has decided.
///
/// Not here, because broken files and missing mounts raise them as well as mistakes do:
/// FileNotFoundError, PermissionError, EOFError, UnicodeDecodeError, JSONDecodeError,
/// UnpicklingError; nor RuntimeError, which everything raises.
pub const TYPES: &[Sign] = &[
    ("AssertionError", Some(Program)),
    ("AttributeError", Some(Program)),
    ("FileExistsError", Some(Program)),
    ("FloatingPointError", Some(Program)),
    ("ImportError", Some(Program)),
    ("IndentationError", Some(Program)),
    ("IndexError", Some(Program)),
    ("IsADirectoryError", Some(Program)),
    ("KeyError", Some(Program)),
    ("ModuleNotFoundError", Some(Program)),
    ("NameError", Some(Program)),
    ("NotADirectoryError", Some(Program)),
    ("NotImplementedError", Some(Program)),
    ("OverflowError", Some(Program)),
    ("RecursionError", Some(Program)),
    ("StopIteration", Some(Program)),
    ("SyntaxError", Some(Program)),
    ("TabError", Some(Program)),
    ("TypeError", Some(Program)),
    ("UnboundLocalError", Some(Program)),
    ("ValueError", Some(Program)),
    ("ZeroDivisionError", Some(Program)),
    // jax: shapes and tracers.
    ("ConcretizationTypeError", Some(Program)),
    ("TracerArrayConversionError", Some(Program)),
    ("UnexpectedTracerError", Some(Program)),
    ("MemoryError", Some(Memory)),
    ("_ArrayMemoryError", Some(Memory)),
    ("OutOfMemoryError", Some(Memory)),
    ("BrokenPipeError", Some(Peer)),
    ("ConnectionAbortedError", Some(Peer)),
    ("ConnectionError", Some(Peer)),
    ("ConnectionRefusedError", Some(Peer)),
    ("ConnectionResetError", Some(Peer)),
    ("DistBackendError", Some(Peer)),
    ("DistNetworkError", Some(Peer)),
    ("DistStoreError", Some(Peer)),
    ("TimeoutError", Some(Peer)),
];

/// What the launchers of other processes raise when one of those has failed: no cause.
pub const ECHOES: &[&str] =
    &["ChildFailedError", "CalledProcessError", "ProcessRaisedException", "SignalException"];

/// Without a traceback: words with which a line says that, and why, its process ends.
pub const LAST_LINES: &[Sign] = &[
    ("Watchdog caught collective operation timeout", Some(Peer)),
    ("watchdog thread terminated with exception", Some(Peer)),
    // XLA and JAX, when the coordinator or another task went away.
    ("JAX distributed service detected fatal errors", Some(Peer)),
    ("Failed to send heartbeat to coordination service", Some(Peer)),
    // A kernel's own assertions, and those of C.
    ("Assertion `", Some(Program)),
    // argparse, with status 2.
    (": error: unrecognized arguments", Some(Program)),
    (": error: the following arguments are required", Some(Program)),
    (": error: argument ", Some(Program)),
    // Rust's allocator.
    ("memory allocation of ", Some(Memory)),
];

/// C++ exceptions that the compiler's own library raises, in the line of `terminate`. A
/// `std::runtime_error` says what it is in its `what()`, or nothing.
pub const TERMINATES: &[Sign] = &[
    ("std::bad_alloc", Some(Memory)),
    ("std::out_of_range", Some(Program)),
    ("std::invalid_argument", Some(Program)),
    ("std::logic_error", Some(Program)),
    ("std::length_error", Some(Program)),
    ("c10::DistBackendError", Some(Peer)),
    ("c10::OutOfMemoryError", Some(Memory)),
];
