use super::*;
use SymptomKind::{Device, Memory, Peer, Program, Storage};
use proptest::prelude::*;

fn traceback(exception: &str) -> String {
    format!(
        "step 12 loss 2.5\nTraceback (most recent call last):\n  File \"/w/train.py\", line 88, in \
         <module>\n    main()\n    ~~~~^^\n  File \"/w/train.py\", line 70, in main\n    \
         loss.backward()\n{exception}\n"
    )
}

#[track_caller]
fn says(output: &str, expected: impl Into<Option<SymptomKind>>) {
    assert_eq!(symptom(output).map(|it| it.kind), expected.into(), "{output}");
}

#[test]
fn the_exception_at_the_end_decides() {
    for (exception, kind) in [
        ("KeyError: 'input_ids'", Some(Program)),
        ("AssertionError", Some(Program)),
        ("ModuleNotFoundError: No module named 'flash_attn'", Some(Program)),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x16 and 32x4)", Some(Program)),
        (
            "RuntimeError: CUDA error: device-side assert triggered\nCUDA kernel errors might be \
             asynchronously reported at some other API call",
            Some(Program),
        ),
        (
            "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
            Some(Program),
        ),
        ("OSError: [Errno 24] Too many open files: '/data/00017.bin'", Some(Program)),
        (
            "torch.distributed.DistBackendError: NCCL error in: ../ProcessGroupNCCL.cpp:1970, invalid \
             usage (run with NCCL_DEBUG=WARN for details), NCCL version 2.21.5",
            Some(Program),
        ),
        ("MemoryError", Some(Memory)),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a \
             total capacity of 79.11 GiB of which 1.20 GiB is free.",
            Some(Memory),
        ),
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 745. GiB for an array",
            Some(Memory),
        ),
        (
            "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to \
             allocate 68719476736 bytes.",
            Some(Memory),
        ),
        ("OSError: [Errno 12] Cannot allocate memory", Some(Memory)),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", Some(Peer)),
        ("ConnectionError: replica 1 went away", Some(Peer)),
        (
            "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by \
             peer [10.0.0.7]:40233",
            Some(Peer),
        ),
        (
            "RuntimeError: [/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for \
             recv operation to complete",
            Some(Peer),
        ),
        (
            "torch.distributed.DistBackendError: NCCL error in: ../ProcessGroupNCCL.cpp:2251, remote \
             process exited or there was a network error, NCCL version 2.21.5\nncclRemoteError: A \
             call failed possibly due to a network error or a remote process exiting prematurely.",
            Some(Peer),
        ),
        (
            "torch.distributed.DistBackendError: NCCL error in: ../ProcessGroupNCCL.cpp:2251, \
             unhandled system error (run with NCCL_DEBUG=INFO for details)\nncclSystemError: System \
             call (e.g. socket, malloc) or external library call failed or device error.",
            Some(Peer),
        ),
        (
            "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 3/4 \
             clients joined.",
            Some(Peer),
        ),
        (
            "jaxlib.xla_extension.XlaRuntimeError: DEADLINE_EXCEEDED: Barrier timed out. Id: \
             PjRT_Client_Connect",
            Some(Peer),
        ),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", Some(Device)),
        ("RuntimeError: No CUDA GPUs are available", Some(Device)),
        (
            "jaxlib.xla_extension.XlaRuntimeError: INTERNAL: Failed to enqueue: \
             CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered",
            Some(Device),
        ),
        ("ImportError: libcuda.so.1: cannot open shared object file: No such file", Some(Device)),
        ("pynvml.NVMLError_GpuIsLost: GPU is lost", Some(Device)),
        ("OSError: [Errno 28] No space left on device: '/ckpt/12.pt'", Some(Storage)),
        ("OSError: [Errno 5] Input/output error", Some(Storage)),
        ("OSError: [Errno 116] Stale file handle: '/data/3.bin'", Some(Storage)),
        (
            "RuntimeError: PytorchStreamWriter failed writing file data/7: file write failed",
            Some(Storage),
        ),
        // Neither a mistake for sure nor a fault.
        ("RuntimeError: CUDA error: unspecified launch failure", None),
        (
            "torch.distributed.DistBackendError: NCCL error in: ../x.cpp:1, unhandled cuda error\n\
             ncclUnhandledCudaError: Call to CUDA function failed.",
            None,
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/data/train.bin'", None),
        ("mylib.errors.Odd: what now", None),
        ("RuntimeError: something", None),
        ("KeyboardInterrupt", None),
    ] {
        says(&traceback(exception), kind);
    }
}

#[test]
fn every_catalogue_entry_is_reached_and_none_is_hidden_by_one_before_it() {
    for signs in [FATAL, PHRASES, TYPES, LAST_LINES, TERMINATES] {
        for (index, (words, _)) in signs.iter().enumerate() {
            let before = signs[..index].iter().find(|(earlier, _)| words.contains(earlier));
            let is_exact = std::ptr::eq(signs, TYPES);
            assert!(before.is_none() || is_exact, "{words} is hidden by {before:?}");
        }
    }
}

#[test]
fn of_a_chain_the_first_cause_decides() {
    let during = "\nDuring handling of the above exception, another exception occurred:\n\n";
    let cause = "\nThe above exception was the direct cause of the following exception:\n\n";
    let chain = |first: &str, link: &str, then: &str| {
        format!(
            "{}{link}{}",
            traceback(first),
            traceback(then).trim_start_matches("step 12 loss 2.5\n")
        )
    };
    let reset = "ConnectionResetError: [Errno 104] Connection reset by peer";
    says(&chain("KeyError: 'x'", during, reset), Program);
    says(&chain(reset, cause, "ValueError: the batch did not come"), Peer);
    // One that is not known leaves it to the next.
    says(&chain("mylib.Odd: 7", during, "OSError: [Errno 5] Input/output error"), Storage);
    // An older one that was handled is not the end.
    says(&(traceback(reset) + &traceback("KeyError: 'x'")), Program);
    says(&(traceback("KeyError: 'x'") + &"step 13 loss 2.5\n".repeat(200)), None);
}

#[test]
fn the_summary_of_a_launcher_hides_nothing() {
    let worker = |rank: u32, exception: &str| {
        let told = traceback(exception);
        let lines: Vec<String> = told.lines().map(|line| format!("[rank{rank}]: {line}")).collect();
        lines.join("\n") + "\n"
    };
    let summary = "E1124 02:11:00.100000 211 torch/distributed/elastic/multiprocessing/api.py:869] \
                   failed (exitcode: 1) local_rank: 0 (pid: 215) of binary: /usr/bin/python\n\
                   Traceback (most recent call last):\n  File \"/usr/bin/torchrun\", line 8, in \
                   <module>\n    sys.exit(main())\n\
                   torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n\
                   ============================================================\n\
                   train.py FAILED\n------------------------------------------------------------\n\
                   Root Cause (first observed failure):\n[0]:\n  exitcode  : 1 (pid: 215)\n  \
                   traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/\n";
    let closed = "torch.distributed.DistNetworkError: Connection closed by peer";
    let output = worker(1, closed) + &worker(0, "KeyError: 'x'") + &worker(2, closed) + summary;
    let symptom = symptom(&output).unwrap();
    assert_eq!((symptom.kind, symptom.line.as_str()), (Program, "KeyError: 'x'"));
    says(&(worker(1, closed) + summary), Peer);
    says(summary, None);
}

#[test]
fn a_broken_device_is_heard_through_everything_else() {
    let output = "[rank0]:[E1124 ProcessGroupNCCL.cpp:1970] CUDA error: uncorrectable ECC error \
                  encountered\n"
        .to_string()
        + &traceback("RuntimeError: something");
    let symptom = symptom(&output).unwrap();
    assert_eq!(symptom.kind, Device);
    assert!(symptom.line.contains("uncorrectable ECC"), "{symptom:?}");
}

#[test]
fn programs_that_are_not_python_have_last_words_too() {
    says(
        "thread 'main' panicked at src/main.rs:4:5:\nindex out of bounds: the len is 3\n",
        Program,
    );
    says("thread 'net' panicked at src/n.rs:1:1:\nConnection reset by peer (os error 104)\n", Peer);
    says("memory allocation of 8589934592 bytes failed\nAborted (core dumped)\n", Memory);
    says(
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
        Memory,
    );
    says(
        "terminate called after throwing an instance of 'std::out_of_range'\n  what():  vector\n",
        Program,
    );
    says(
        "terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: an \
         illegal memory access was encountered\n",
        Program,
    );
    says(
        "terminate called after throwing an instance of 'std::runtime_error'\n  what():  odd\n",
        None,
    );
    says(
        "[rank3]:[E1124 02:11:00 ProcessGroupNCCL.cpp:616] [Rank 3] Watchdog caught collective \
         operation timeout: WorkNCCL(SeqNum=41, OpType=ALLREDUCE) ran for 600000 milliseconds\n\
         Fatal Python error: Aborted\n",
        Peer,
    );
    says(
        "../aten/src/ATen/native/cuda/Indexing.cu:1290: block: [3,0,0], thread: [5,0,0] Assertion `srcIndex < srcSelectDimSize` failed.\n",
        Program,
    );
    says("usage: train.py [-h]\ntrain.py: error: unrecognized arguments: --lrr 3\n", Program);
    says(
        "2026-11-24 F external/xla/client.cc:82] Terminating process because the JAX distributed service detected fatal errors.\n",
        Peer,
    );
    // A bad pointer, a broken bar of memory: it does not say.
    says("Fatal Python error: Segmentation fault\n\nSegmentation fault (core dumped)\n", None);
    says("", None);
    says("step 5 loss 2.3\nretrying: Connection reset by peer\nstep 6 loss 2.2\n", None);
}

#[test]
fn the_line_is_bare_and_short() {
    let long = format!("\u{1b}[31mKeyError: '{}'\u{1b}[0m", "ü".repeat(200));
    let symptom = symptom(&traceback(&long)).unwrap();
    assert!(symptom.line.starts_with("KeyError: 'ü") && symptom.line.len() <= Symptom::LINE_MAX);
}

#[test]
fn only_the_end_is_kept() {
    let mut tail = Tail::default();
    tail.push(traceback("KeyError: 'x'").as_bytes());
    assert_eq!(tail.symptom().map(|it| it.kind), Some(Program));
    for _ in 0..10_000 {
        tail.push(b"step 5 loss 2.3\n");
        assert!(tail.0.len() <= 2 * TAIL_BYTES);
    }
    assert_eq!(tail.symptom(), None);
    tail.push(&vec![b'x'; 5 * TAIL_BYTES]);
    assert_eq!(tail.0[tail.0.len() - TAIL_BYTES..], vec![b'x'; TAIL_BYTES]);
}

proptest! {
    #[test]
    fn no_output_makes_us_fall(lines in prop::collection::vec(
        prop_oneof![
            Just("Traceback (most recent call last):".to_string()),
            Just("[rank0]: Traceback (most recent call last):".to_string()),
            Just("During handling of the above exception, another exception occurred:".to_string()),
            Just("  what():  CUDA error".to_string()),
            Just("\u{1b}[".to_string()),
            ".{0,40}",
            "(  )?[A-Z][a-z]+Error: .*",
        ],
        0..30,
    )) {
        if let Some(symptom) = symptom(&lines.join("\n")) {
            prop_assert!(symptom.line.len() <= Symptom::LINE_MAX);
            prop_assert!(!symptom.line.chars().any(char::is_control));
        }
    }
}
