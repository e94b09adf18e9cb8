//! `sock.Thread`: a coroutine, its first turn, its turns, its end; and which thread runs on this OS thread.
//!
//! What an end means beyond the result (async generators left half-way, reports of failures) is Python's: see the
//! functions of `sock._scheduler` that are called here by name.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::hint::black_box;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use pyo3::exceptions::{
    PyException, PyImportError, PyKeyboardInterrupt, PyRuntimeError, PyStopIteration, PySystemExit, PyTypeError,
};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTypeInfo, intern};

use super::attached::Attached;
use super::calls::bug;
use super::poller::Poller;
use super::{Handle, Hub, error, ops};
use crate::poller::{Roster, Thread};
use crate::wait::{NEVER, Reason, Wait};

/// How deep first turns nest before they are queued instead: well below any recursion limit.
const NESTING: u32 = 40;

/// For how many Thread objects memory is kept: a server's bursts are no larger, and it is a quarter of a megabyte.
const MOST_SPARE: usize = 1000;

/// How deep the ends of Thread objects nest, each the last to hold on to the next.
const DEALLOC_DEPTH: usize = 50;

/// What runs on this OS thread.
struct Here {
    /// The thread that runs. Whoever set it holds a reference until it is set back.
    current: Cell<*mut ffi::PyObject>,
    /// Turns inside turns, of threads that were started or resumed by what runs here.
    nested: Cell<u32>,
    /// A loop of ours is below what runs here.
    looping: Cell<bool>,
    /// The `run()` to which threads belong that start here outside of any thread; 0: none.
    run: Cell<u64>,
    /// Ends of Thread objects inside each other.
    dying: Cell<usize>,
    /// There is something in `DYING`.
    deferred: Cell<bool>,
    /// Numbers for the next threads that start here: from the first, up to the second.
    ids: Cell<(u64, u64)>,
    /// The memory of Thread objects that went while threads ran here, for the next ones: the first of a list.
    spare: Cell<Option<Block>>,
    /// How many there are.
    spares: Cell<usize>,
}

/// The memory of a Thread object, out of the collector's sight, with what its class has for weak references as in a new
/// one: the object, and in it what is ours. While it is spare, the next one stands in there.
#[derive(Clone, Copy)]
struct Block {
    object: *mut ffi::PyObject,
    task: *mut Task,
}

impl Block {
    /// Makes it an object again.
    fn fill(self, py: Python<'_>, task: Task) -> Bound<'_, Task> {
        // SAFETY: memory of such an object, that nobody else has. It is whole before the collector sees it.
        unsafe {
            self.task.write(task);
            ffi::PyObject_Init(self.object, Task::type_object_raw(py));
            ffi::PyObject_GC_Track(self.object.cast());
            Bound::from_owned_ptr(py, self.object).cast_into_unchecked()
        }
    }
}

impl Here {
    fn next_id(&self) -> u64 {
        let (mut next, mut end) = self.ids.get();
        if next == end {
            next = IDS.fetch_add(ID_BLOCK, Ordering::Relaxed);
            end = next + ID_BLOCK;
        }
        self.ids.set((next + 1, end));
        next
    }

    fn running<'py>(&self, py: Python<'py>) -> Option<Borrowed<'py, 'py, Task>> {
        // SAFETY: the pointer is null or a Task that whoever set it keeps alive until it is set back, which is not
        // before what runs here has returned.
        let any = unsafe { Borrowed::from_ptr_or_opt(py, self.current.get()) }?;
        // SAFETY: only Tasks are ever put there.
        Some(unsafe { any.cast_unchecked() })
    }

    fn is_polling(&self) -> bool {
        self.looping.get() || self.nested.get() > 0
    }

    /// One turn inside whatever runs here.
    fn turn(&self, task: &Bound<'_, Task>) -> PyResult<()> {
        // Of those that run here, each inside the next, the innermost alone may be unlisted.
        enlist(self.running(task.py()).as_deref().unwrap_or(task));
        let turn = Nested { here: self, outer: self.current.replace(task.as_ptr()), depth: self.nested.get() + 1 };
        self.nested.set(turn.depth);
        let ended = step(task);
        if self.nested.get() != turn.depth {
            // It forked, and this is the child.
            return ended.map(drop);
        }
        if matches!(ended, Ok(false)) {
            end_turn(task);
        }
        drop(turn);
        self.release_spare(task.py());
        ended.map(drop)
    }

    /// Memory for a Thread object.
    fn take_spare(&self) -> Option<Block> {
        let spare = self.spare.get()?;
        // SAFETY: where `keep_spare` has put it.
        self.spare.set(unsafe { spare.task.cast::<Option<Block>>().read() });
        self.spares.set(self.spares.get() - 1);
        Some(spare)
    }

    /// `false`: there is enough.
    fn keep_spare(&self, block: Block) -> bool {
        let keeps = self.spares.get() < MOST_SPARE && self.is_polling();
        if keeps {
            // SAFETY: memory of a Task, which is larger, and ours alone.
            unsafe { block.task.cast::<Option<Block>>().write(self.spare.replace(Some(block))) };
            self.spares.set(self.spares.get() + 1);
        }
        keeps
    }

    /// Nothing runs here any more: nothing is kept for it.
    fn release_spare(&self, _attached: Python<'_>) {
        if self.is_polling() {
            return;
        }
        while let Some(spare) = self.take_spare() {
            // SAFETY: memory from where the collector has it, that nobody else has.
            unsafe { ffi::PyObject_GC_Del(spare.object.cast()) };
        }
    }
}

/// One turn inside whatever runs here, at whose end, also by a panic, that runs again.
struct Nested<'a> {
    here: &'a Here,
    outer: *mut ffi::PyObject,
    depth: u32,
}

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        // In the child of a fork `after_fork` has said that nothing runs here, and so it stays.
        if self.here.nested.get() == self.depth {
            self.here.nested.set(self.depth - 1);
            self.here.current.set(self.outer);
        }
    }
}

thread_local! {
    static HERE: Here = const { Here {
        current: Cell::new(ptr::null_mut()), nested: Cell::new(0), looping: Cell::new(false), run: Cell::new(0),
        dying: Cell::new(0), deferred: Cell::new(false), ids: Cell::new((0, 0)),
        spare: Cell::new(None), spares: Cell::new(0),
    } };
    /// The hub of this OS thread's poller, and for which of its interpreter states; `sock.poller()` keeps it. Code of an OS
    /// thread that ends may run when this has gone: then `sock.poller()` alone knows.
    static HUB: RefCell<(i64, Weak<Hub>)> = const { RefCell::new((0, Weak::new())) };
    /// Thread objects whose end waits for the end of others, below on the stack. An OS thread that ends may let go of some
    /// when what Rust keeps for it has gone, so this never goes; where nothing dies it holds no memory.
    static DYING: ManuallyDrop<RefCell<Vec<*mut ffi::PyObject>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// The first number that no OS thread has taken.
static IDS: AtomicU64 = AtomicU64::new(1);

/// How many numbers an OS thread takes at a time, so that several do not wait for each other with each thread's start.
const ID_BLOCK: u64 = 64;

/// A coroutine that runs by itself: made by ``newthread``. Awaiting it gives its result or raises its exception.
// In this order: what each turn touches comes first, in as few cache lines as can be.
#[pyclass(frozen, weakref, name = "Thread", module = "sock")]
#[repr(C)]
pub struct Task {
    wait: Wait,
    coro: Own,
    context: Own,
    hub: Attached<Held>,
    /// No wait goes beyond this time: what `sock.deadline()` has set.
    limit: AtomicU64,
    id: u64,
    /// Its place in the hub's roster, or one of those below.
    place: AtomicUsize,
    /// Whether it has ended, and how: an `End`.
    ended: AtomicU8,
    /// It failed, and nobody has seen that.
    unseen: AtomicBool,
    /// Its group or its `run()` has cancelled it, which they do once: what it still does is its end.
    condemned: AtomicBool,
    /// The label is the whole name; else the id follows.
    named: bool,
    /// How often it was cancelled, less what a group has taken back.
    cancels: AtomicU32,
    /// The `run()` inside which it was started, handed on from thread to thread; 0: none.
    run: u64,
    label: Attached<PyString>,
    /// Nothing is dropped under this lock, and no Python runs.
    state: parking_lot::Mutex<State>,
}

/// A hub as its threads hold it, counted by the interpreter: that costs the OS thread that made it next to nothing.
#[pyclass(frozen, module = "sock._sock")]
pub struct Held(Arc<Hub>);

/// A reference that a thread gives back at its end, so that the next one gets the memory while it is in the cache. It is
/// changed under the thread's lock alone, by the thread's own turn, or when nobody can reach the thread any more.
struct Own(AtomicPtr<ffi::PyObject>);

impl Own {
    fn new(object: Bound<'_, PyAny>) -> Self {
        Own(AtomicPtr::new(object.into_ptr()))
    }

    /// # Safety
    /// This is the thread's own turn, or its lock is held and the result is used no longer than that.
    unsafe fn get<'py>(&self, py: Python<'py>) -> Option<Borrowed<'_, 'py, PyAny>> {
        // SAFETY: a reference of ours, or null, and nobody gives it back meanwhile, as the caller promises.
        (!self.is_empty()).then(|| unsafe { Borrowed::from_ptr(py, self.0.load(Ordering::Relaxed)) })
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Called under the thread's lock; the result is dropped under none.
    fn replace(&self, new: Option<Py<PyAny>>) -> Option<Attached<PyAny>> {
        // The lock makes the two steps one.
        let old = self.0.load(Ordering::Relaxed);
        self.0.store(new.map_or(ptr::null_mut(), Py::into_ptr), Ordering::Relaxed);
        // SAFETY: the reference was ours, if there was one; threads are changed and dropped by attached OS threads.
        unsafe { mem::transmute::<*mut ffi::PyObject, Option<Py<PyAny>>>(old).map(|old| Attached::new(old)) }
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let object = self.0.load(Ordering::Relaxed);
        // SAFETY: a Py is a pointer to an object, or none where it is null; it is borrowed here.
        visit.call(unsafe { &*(&raw const object).cast::<Option<Py<PyAny>>>() })
    }
}

/// Not on the roster yet: in its first turn, inside another thread, which is. Most that are short never get there.
const UNLISTED: usize = usize::MAX - 1;

/// On the roster no more.
const LEFT: usize = usize::MAX;

#[derive(PartialEq, Eq)]
#[repr(u8)]
enum End {
    NotYet,
    Ended,
    /// It returned None.
    EndedWithNone,
}

#[derive(Default)]
struct State {
    /// What `resume` brought, until `suspend` takes it.
    value: Option<Py<PyAny>>,
    /// The wait of the `suspend()` that has not been resumed.
    suspended: Option<u32>,
    /// What it returned, or what ended it.
    outcome: Option<Result<Attached<PyAny>, Attached<PyAny>>>,
    /// Who is told of its end, in the order in which they asked.
    told: Vec<Told>,
    /// Async generators that it began, and threads that close those it has dropped: `_scheduler` keeps the list.
    agens: Option<Py<PyAny>>,
}

impl State {
    /// There is nothing but an outcome.
    fn is_plain(&self) -> bool {
        self.value.is_none() && self.agens.is_none() && self.told.capacity() == 0
    }
}

enum Told {
    /// A thread that awaits it, in the wait of that number.
    Joiner(Handle, u32),
    /// What was given to `onfinish`.
    Callback(Py<PyAny>),
}

/// A Thread, which goes whenever it wants: it takes itself off the roster first.
#[derive(Debug)]
pub struct Listed(*mut ffi::PyObject);

// SAFETY: a pointer, used by attached OS threads alone.
unsafe impl Send for Listed {}

impl Listed {
    /// Called under the roster's lock, which keeps the object's memory where it is.
    fn upgrade<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Task>> {
        // SAFETY: a Thread that is on the roster has its memory, and its count tells whether it is on its way out.
        unsafe {
            #[cfg(Py_GIL_DISABLED)]
            let alive = ffi::PyUnstable_TryIncRef(self.0) != 0;
            #[cfg(not(Py_GIL_DISABLED))]
            let alive = ffi::Py_REFCNT(self.0) > 0;
            #[cfg(not(Py_GIL_DISABLED))]
            if alive {
                ffi::Py_INCREF(self.0);
            }
            alive.then(|| Bound::from_owned_ptr(py, self.0).cast_into_unchecked())
        }
    }
}

/// A function of `sock._scheduler`.
fn scheduler<'py>(py: Python<'py>, cell: &PyOnceLock<Py<PyAny>>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    error::attribute(py, cell, "sock._scheduler", name)
}

/// Tells `sock.excepthook` of what ended a thread, or came out of what was called at its end.
fn report(task: &Bound<'_, Task>, exc: &Bound<'_, PyAny>) {
    static REPORT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = task.py();
    // What goes wrong there is told there; at the interpreter's end there may be nobody to tell.
    let _told = scheduler(py, &REPORT, "_report").and_then(|report| report.call1((task, exc)));
}

impl Thread for Handle {
    type Weak = Listed;

    fn wait(&self) -> &Wait {
        &self.get().wait
    }
    fn hub(&self) -> &Arc<Hub> {
        self.get().hub()
    }
}

impl Task {
    pub fn wait(&self) -> &Wait {
        &self.wait
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub.get().0
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn set_limit(&self, limit: u64) -> u64 {
        self.limit.swap(limit, Ordering::Relaxed)
    }

    /// Sets the limit, unless there is a nearer one already; the one before.
    pub fn nearer_limit(&self, limit: u64) -> u64 {
        self.limit.fetch_min(limit, Ordering::Relaxed)
    }

    pub fn label(&self, py: Python<'_>) -> Py<PyString> {
        self.label.clone_ref(py)
    }

    pub fn is_named(&self) -> bool {
        self.named
    }

    /// Runs the coroutine up to its next wait, in the thread's own context. `Some`: it has ended.
    pub fn step<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        // SAFETY: this is its turn.
        let coro = unsafe { self.coro.get(py) }?;
        let sent = self.in_context(py, || {
            let mut sent = send(&coro);
            while let Sent::Foreign(what) = sent {
                sent = throw(&coro, self.refusal(&what));
            }
            sent
        });
        match sent {
            Ok(Sent::Ended(result)) => Some(result),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Why something of another event loop cannot be awaited.
    fn refusal(&self, what: &Bound<'_, PyAny>) -> PyErr {
        let kind = what.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyRuntimeError::new_err(format!(
            "thread '{}' awaited '{kind}', which belongs to another event loop: await sock operations, threads and sleeps",
            self.full_name(what.py())
        ))
    }

    /// The wait `epoch` is a `suspend()`. `false`: it has been resumed already.
    pub fn suspend(&self, epoch: u32) -> bool {
        let mut state = self.state.lock();
        let waits = state.value.is_none();
        state.suspended = waits.then_some(epoch);
        waits
    }

    /// The end of a `suspend()`: what it was resumed with. A cancelled one leaves that for the next.
    pub fn resumed(&self, cancelled: bool) -> Option<Py<PyAny>> {
        let mut state = self.state.lock();
        state.suspended = None;
        if cancelled { None } else { state.value.take() }
    }

    /// `thread` awaits this one's end in its wait `epoch`. `false`: it has ended.
    pub fn join(&self, thread: &Bound<'_, Task>, epoch: u32) -> bool {
        let handle = thread.clone().unbind();
        let mut state = self.state.lock();
        if self.is_done() {
            drop(state);
            drop(handle);
            return false;
        }
        state.told.push(Told::Joiner(handle, epoch));
        true
    }

    /// `thread` awaits this one no longer.
    pub fn unjoin(&self, thread: *const Task) {
        let gone = {
            let told = &mut self.state.lock().told;
            let is_it = |each: &Told| matches!(each, Told::Joiner(joiner, _) if ptr::eq(joiner.get(), thread));
            told.iter().position(is_it).map(|at| told.remove(at))
        };
        drop(gone);
    }

    pub fn is_done(&self) -> bool {
        self.ended.load(Ordering::Acquire) != End::NotYet as u8
    }

    fn set_ended(&self, how: End) {
        self.ended.store(how as u8, Ordering::Release);
    }

    /// What the thread returned; what ended it as an error. None: it has not ended, or was lost half-way.
    pub fn outcome(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        let outcome = match &self.state.lock().outcome {
            Some(Ok(result)) => Ok(result.clone_ref(py)),
            Some(Err(exc)) => Err(exc.clone_ref(py)),
            None => return None,
        };
        Some(outcome.map_err(|exc| {
            self.see();
            PyErr::from_value(exc.into_bound(py))
        }))
    }

    /// It has ended, and returned None.
    pub fn returned_none(&self) -> bool {
        self.ended.load(Ordering::Acquire) == End::EndedWithNone as u8
    }

    /// Its failure is known to somebody. `true`: it was not before.
    fn see(&self) -> bool {
        let unseen = self.unseen.load(Ordering::Acquire) && self.unseen.swap(false, Ordering::AcqRel);
        if unseen {
            self.leave_roster();
        }
        unseen
    }

    /// Off the roster, unless it is off already.
    fn leave_roster(&self) {
        if self.place.load(Ordering::Acquire) < UNLISTED && !self.hub().is_forked() {
            self.leave(&mut self.hub().roster.lock());
        }
    }

    fn leave(&self, roster: &mut Roster<Handle>) {
        let place = self.place.load(Ordering::Relaxed);
        if place < UNLISTED {
            self.place.store(LEFT, Ordering::Release);
            roster.try_remove(place);
        }
    }

    pub fn full_name(&self, py: Python<'_>) -> String {
        let label = self.label.bind(py).to_string_lossy();
        if self.named { label.into_owned() } else { format!("{label}-{}", self.id) }
    }
}

/// What came of running a coroutine up to its next wait.
enum Sent<'py> {
    Waits,
    /// It yielded something that is not ours.
    Foreign(Bound<'py, PyAny>),
    Ended(PyResult<Bound<'py, PyAny>>),
}

fn yielded(value: Bound<'_, PyAny>) -> Sent<'_> {
    if value.is_none() { Sent::Waits } else { Sent::Foreign(value) }
}

/// Before Python 3.14, an OS thread that wants the interpreter while that comes to its end is ended by `pthread_exit`,
/// which unwinds the stack. Through Rust it cannot: there the OS thread stays for good, as it does on 3.14 anyway.
struct Stays;

impl Drop for Stays {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Calls what runs Python for as long as it likes.
fn staying<R>(call: impl FnOnce() -> R) -> R {
    let stays = Stays;
    let result = call();
    mem::forget(stays);
    result
}

// Called behind a `black_box`, since the interpreter's functions are declared as such that never unwind.
type IterSend =
    unsafe extern "C-unwind" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut *mut ffi::PyObject) -> ffi::PySendResult;
type Vectorcall = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    usize,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// Calls a function of anybody's.
///
/// # Safety
/// `args` are `count` live objects.
unsafe fn call<'py>(
    func: &Bound<'py, PyAny>,
    args: *const *mut ffi::PyObject,
    count: usize,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the function itself, which may unwind, whatever its declaration says; a live object, and arguments as the
    // caller promises.
    unsafe {
        let vectorcall = mem::transmute::<*const (), Vectorcall>(black_box(ffi::PyObject_Vectorcall as *const ()));
        let returned = staying(|| vectorcall(func.as_ptr(), args, count, ptr::null_mut()));
        Bound::from_owned_ptr_or_opt(func.py(), returned).ok_or_else(|| raised(func.py()))
    }
}

/// What was raised. A panic of ours that has come out as an exception is no more than a failure: `PyO3` would go on with it.
fn raised(py: Python<'_>) -> PyErr {
    catch_unwind(|| PyErr::fetch(py)).unwrap_or_else(|_| bug())
}

/// What is being raised, put aside until this is dropped, whatever else is raised and caught meanwhile.
pub struct Aside<'py> {
    raised: [*mut ffi::PyObject; 3],
    _attached: PhantomData<Python<'py>>,
}

#[allow(deprecated)] // what came after it is not there in Python 3.11
impl<'py> Aside<'py> {
    pub fn new(_attached: Python<'py>) -> Self {
        let mut raised = [ptr::null_mut(); 3];
        let [kind, value, traceback] = &mut raised;
        // SAFETY: attached, and three places that are ours; what is put there is our own.
        unsafe { ffi::PyErr_Fetch(kind, value, traceback) };
        Aside { raised, _attached: PhantomData }
    }
}

#[allow(deprecated)]
impl Drop for Aside<'_> {
    fn drop(&mut self) {
        let [kind, value, traceback] = self.raised;
        // SAFETY: attached still, as the lifetime says; what `new` got is given back.
        unsafe { ffi::PyErr_Restore(kind, value, traceback) };
    }
}

fn send<'py>(coro: &Bound<'py, PyAny>) -> Sent<'py> {
    let py = coro.py();
    let mut result = ptr::null_mut();
    // SAFETY: a live coroutine is sent None; the result is a new reference, or null with an exception set. The
    // function may unwind, whatever its declaration says.
    unsafe {
        let iter_send = mem::transmute::<*const (), IterSend>(black_box(ffi::PyIter_Send as *const ()));
        match staying(|| iter_send(coro.as_ptr(), ffi::Py_None(), &raw mut result)) {
            ffi::PySendResult::PYGEN_NEXT => yielded(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_RETURN => Sent::Ended(Ok(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Sent::Ended(Err(raised(py))),
        }
    }
}

fn throw<'py>(coro: &Bound<'py, PyAny>, error: PyErr) -> Sent<'py> {
    let py = coro.py();
    match coro.call_method1("throw", (error,)) {
        Ok(value) => yielded(value),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => Sent::Ended(error.value(py).getattr("value")),
        Err(error) => Sent::Ended(Err(error)),
    }
}

/// One turn, up to the next wait or the end. `true`: it has ended, and whoever wanted to know has been told. An error
/// is what ends the program: Ctrl-C, `SystemExit`.
pub fn step(task: &Bound<'_, Task>) -> PyResult<bool> {
    while let Some(result) = task.get().step(task.py()) {
        if end(task, result)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The coroutine has ended. `false`: another follows in its place, which closes async generators that it left.
fn end(task: &Bound<'_, Task>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<bool> {
    let (py, this) = (task.py(), task.get());
    #[cfg(not(Py_3_12))]
    super::interrupt::from_outside::forget(py);
    // SAFETY: a part of the Thread soon, which is an object; until then `py` is here.
    let attached = |object| unsafe { Attached::new(object) };
    let outcome = match result {
        Ok(result) => Ok(attached(result.unbind())),
        Err(error) => Err(attached(error.into_value(py).into_any())),
    };
    let exc = outcome.as_ref().err().map(|exc| exc.clone_ref(py).into_bound(py));
    let fatal =
        exc.as_ref().filter(|exc| exc.is_instance_of::<PyKeyboardInterrupt>() || exc.is_instance_of::<PySystemExit>());
    // Not what was asked for, nor what comes out anyway.
    let unseen = fatal.is_none() && exc.as_ref().is_some_and(|exc| !error::is_cancelled(exc));
    let mut state = this.state.lock();
    if let Some(agens) = state.agens.take() {
        drop(state);
        if let Some(closing) = closing(task, &agens, &outcome) {
            let ended = {
                let _state = this.state.lock();
                this.coro.replace(Some(closing))
            };
            drop(ended);
            return Ok(false);
        }
        state = this.state.lock();
    }
    let none = matches!(&outcome, Ok(result) if result.is_none(py));
    state.outcome = Some(outcome);
    this.unseen.store(unseen, Ordering::Release);
    this.set_ended(if none { End::EndedWithNone } else { End::Ended });
    let told = (!state.told.is_empty()).then(|| mem::take(&mut state.told));
    let owned = (this.coro.replace(None), this.context.replace(None));
    drop(state);
    drop(owned);
    if unseen {
        enlist(task);
    }
    let fatal = fatal.map(|exc| PyErr::from_value(exc.clone()));
    let fatal = match told {
        Some(told) => tell(task, told, fatal),
        None => fatal,
    };
    // After those who may have seen the failure: where no thread is left, other OS threads report what nobody has seen.
    this.finish(unseen);
    fatal.map_or(Ok(true), Err)
}

/// Tells of a thread's end; what of that ends the program, unless something does already.
fn tell(task: &Bound<'_, Task>, told: Vec<Told>, mut fatal: Option<PyErr>) -> Option<PyErr> {
    let (py, this) = (task.py(), task.get());
    for each in told {
        match each {
            Told::Joiner(joiner, epoch) => {
                if joiner.get().wait.wake(epoch, Reason::Event) {
                    // Whoever awaits it gets the exception.
                    this.see();
                    let hub = joiner.get().hub().clone();
                    hub.push(joiner);
                }
            }
            Told::Callback(called) => {
                // SAFETY: one live object.
                if let Err(error) = unsafe { call(called.bind(py), [task.as_ptr()].as_ptr(), 1) } {
                    if error.is_instance_of::<PyException>(py) {
                        report(task, error.value(py));
                    } else {
                        fatal.get_or_insert(error);
                    }
                }
            }
        }
    }
    fatal
}

/// What closes the async generators that a thread has left half-way, if there are any left.
fn closing(
    task: &Bound<'_, Task>,
    agens: &Py<PyAny>,
    outcome: &Result<Attached<PyAny>, Attached<PyAny>>,
) -> Option<Py<PyAny>> {
    static CLOSING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (result, exc) = match outcome {
        Ok(result) => (Some(&**result), None),
        Err(exc) => (None, Some(&**exc)),
    };
    match scheduler(task.py(), &CLOSING, "_closing").and_then(|closing| closing.call1((agens, result, exc))) {
        Ok(closing) => (!closing.is_none()).then(|| closing.unbind()),
        Err(error) => {
            report(task, error.value(task.py()));
            None
        }
    }
}

/// A loop of ours runs on this OS thread, until this is dropped.
pub struct Looping<'py>(PhantomData<Python<'py>>);

impl<'py> Looping<'py> {
    pub fn new(_attached: Python<'py>) -> Self {
        HERE.with(|here| here.looping.set(true));
        #[cfg(Py_GIL_DISABLED)]
        ops::per_loop::begin();
        Looping(PhantomData)
    }
}

impl Drop for Looping<'_> {
    fn drop(&mut self) {
        HERE.with(|here| {
            here.looping.set(false);
            // SAFETY: attached still, as the lifetime says.
            here.release_spare(unsafe { Python::assume_attached() });
        });
        #[cfg(Py_GIL_DISABLED)]
        // SAFETY: attached still, as the lifetime says.
        unsafe {
            ops::per_loop::end();
        }
    }
}

/// The hub of this OS thread's poller, which is made if there is none.
fn hub(py: Python<'_>) -> PyResult<Arc<Hub>> {
    static POLLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let known = HUB.try_with(|known| {
        let known = known.borrow();
        if known.0 == interpreter_state() { known.1.upgrade() } else { None }
    });
    if let Ok(Some(hub)) = known {
        return Ok(hub);
    }
    let poller = scheduler(py, &POLLER, "poller")?.call0()?;
    Ok(poller.cast::<Poller>()?.get().hub().clone())
}

/// What this OS thread is to the interpreter: another one after each time that the interpreter has forgotten it.
fn interpreter_state() -> i64 {
    // SAFETY: called by attached OS threads alone.
    unsafe { ffi::PyThreadState_GetID(ffi::PyThreadState_Get()) }
}

/// `poller()` of this OS thread from now on.
pub fn set_hub(hub: &Arc<Hub>) {
    know_hub((interpreter_state(), Arc::downgrade(hub)));
}

fn know_hub(hub: (i64, Weak<Hub>)) {
    let before = HUB.try_with(|known| known.replace(hub));
    drop(before);
}

/// The Poller of a hub has gone.
pub fn unset_hub(hub: &Arc<Hub>) {
    if is_here(hub) {
        know_hub((0, Weak::new()));
    }
}

fn is_here(hub: &Arc<Hub>) -> bool {
    let is_it =
        |(state, here): &(i64, Weak<Hub>)| ptr::eq(here.as_ptr(), Arc::as_ptr(hub)) && *state == interpreter_state();
    HUB.try_with(|known| is_it(&known.borrow())).unwrap_or(false)
}

/// A new thread, with its first turn if there is room for one more on the stack.
pub fn start<'py>(coro: Bound<'py, PyAny>, name: Option<&Bound<'py, PyString>>) -> PyResult<Bound<'py, Task>> {
    let py = coro.py();
    HERE.with(|here| {
        let (hub, run) = match here.running(py) {
            Some(running) => (running.get().hub.clone_ref(py), running.get().run),
            None => (Py::new(py, Held(hub(py)?))?, here.run.get()),
        };
        let task = Task::make(here, hub, run, coro, name)?;
        if here.nested.get() >= NESTING {
            // Too deep to run inside its starter: next in the queue.
            end_turn(&task);
        } else if here.is_polling() {
            here.turn(&task)?;
        } else {
            static FIRST: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            // SAFETY: one live object.
            unsafe { call(&scheduler(py, &FIRST, "_first_turn")?, [task.as_ptr()].as_ptr(), 1) }?;
        }
        Ok(task)
    })
}

/// A coroutine: of `func`, if it is one or can be awaited; of what it returns, if it is a function.
///
/// # Safety
/// `args` are `count` live objects.
pub unsafe fn coroutine<'py>(
    func: &Bound<'py, PyAny>,
    args: *const *mut ffi::PyObject,
    count: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = func.py();
    // SAFETY: a live object, and arguments as the caller promises.
    let coro = unsafe {
        if ffi::PyCallable_Check(func.as_ptr()) != 0 {
            call(func, args, count)?
        } else if count > 0 {
            return Err(PyTypeError::new_err("newthread takes arguments with a function, not with a coroutine"));
        } else {
            func.clone()
        }
    };
    // SAFETY: a live object.
    if unsafe { ffi::PyCoro_CheckExact(coro.as_ptr()) } == 0 {
        static AS_COROUTINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        return scheduler(py, &AS_COROUTINE, "_as_coroutine")?.call1((func, &coro));
    }
    Ok(coro)
}

/// Starts a thread: runs ``func(*args)``, an ``async def`` function or a coroutine, at once, up to its first wait.
///
/// ``func`` may also be an operation, such as ``conn.recv``, or return anything else that can be awaited.
///
/// Callable from anywhere: plain code, a thread, any OS thread; it belongs to the calling OS thread's poller.
#[pyfunction]
#[pyo3(signature = (func, *args, name=None))]
pub fn newthread<'py>(
    func: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    name: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, Task>> {
    let given: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    // SAFETY: the tuple keeps them alive.
    let coro = unsafe { coroutine(func, given.as_ptr(), given.len()) }?;
    if let Ok(name) = name.map(Bound::cast::<PyString>).transpose() {
        return start(coro, name);
    }
    coro.call_method0(intern!(coro.py(), "close"))?;
    let kind = name.unwrap_or(&coro).get_type();
    Err(PyTypeError::new_err(format!("name must be a str, not {}", kind.name()?)))
}

/// The thread that runs on this OS thread, if one does.
pub fn running(py: Python<'_>) -> Option<Borrowed<'_, '_, Task>> {
    HERE.with(|here| here.running(py))
}

pub fn set_running(task: Option<&Bound<'_, Task>>) {
    HERE.with(|here| here.current.set(task.map_or(ptr::null_mut(), Bound::as_ptr)));
}

/// Ends a thread's turn: it waits now, or goes on the ready queue.
pub fn end_turn(task: &Bound<'_, Task>) {
    enlist(task);
    let this = task.get();
    if this.wait.leave() {
        this.hub().push(task.clone().unbind());
    }
}

/// Puts a thread on its hub's roster, unless it has been there.
#[inline(always)]
fn enlist(task: &Bound<'_, Task>) {
    if task.get().place.load(Ordering::Relaxed) == UNLISTED {
        enlist_now(task);
    }
}

fn enlist_now(task: &Bound<'_, Task>) {
    let this = task.get();
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: a live object of ours.
    unsafe {
        ffi::PyUnstable_EnableTryIncRef(task.as_ptr());
    }
    let mut roster = this.hub().roster.lock();
    this.hub().count_live(&mut roster, 1);
    let place = roster.insert(Listed(task.as_ptr()));
    this.place.store(place, Ordering::Relaxed);
}

fn task_of<'a>(object: *mut ffi::PyObject) -> &'a Task {
    // SAFETY: called with live Threads alone, and what is borrowed is used at once.
    unsafe { &*ptr::from_ref((*(&raw const object).cast::<Handle>()).get()) }
}

/// Nobody refers to the thread any more, or nobody but a circle of garbage. One that has not ended never will: its
/// `finally` blocks run, and a wait in one of them fails.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter finalizes a live Thread, attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as above.
    let task: Bound<'_, Task> = unsafe { Bound::from_borrowed_ptr(py, object).cast_into_unchecked() };
    let this = task.get();
    let outer = Aside::new(py);
    if let Some(lost) = lose(&task) {
        this.set_ended(End::Ended);
        this.finish(false);
        report(&task, lost.value(py));
    } else if this.see()
        && let Some(Err(exc)) = this.outcome(py)
    {
        report(&task, exc.value(py));
    }
    drop(task);
    drop(outer);
}

/// Nothing will ever resume the thread: its coroutine is closed, half-way. What is to be told of it; None: it has ended.
fn lose(task: &Bound<'_, Task>) -> Option<PyErr> {
    static LOST: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (py, this) = (task.py(), task.get());
    let coro = {
        let _state = this.state.lock();
        this.coro.replace(None)
    }?;
    // The collector may have begun with the coroutine: it is being closed then, below on the stack, and what it waited
    // for was the last to hold the thread.
    let running =
        coro.getattr(py, intern!(py, "cr_running")).is_ok_and(|running| running.is_truthy(py).unwrap_or(false));
    let mut cause = None;
    if !running {
        let current = HERE.with(|here| here.current.replace(ptr::null_mut()));
        let close = || this.in_context(py, || coro.call_method0(py, intern!(py, "close"))).and_then(|closed| closed);
        let closed = catch_unwind(AssertUnwindSafe(close)).unwrap_or_else(|_| Err(bug()));
        HERE.with(|here| here.current.set(current));
        cause = closed.err().map(|error| error.into_value(py));
    }
    drop(coro);
    // At the interpreter's end there may be nobody to ask.
    let lost = scheduler(py, &LOST, "_lost").and_then(|lost| lost.call1((task, cause)));
    Some(lost.map_or_else(|error| error, PyErr::from_value))
}

/// A hub's poller has gone: its threads end, and whoever awaits one of them hears why.
pub fn orphan_all(py: Python<'_>, hub: &Hub) {
    // All are lost first, so that none of them awaits another one's end any more.
    let lost: Vec<_> = listed(py, hub).into_iter().filter_map(|task| lose(&task).map(|lost| (task, lost))).collect();
    for (task, lost) in lost {
        let agens = task.get().state.lock().agens.take();
        drop(agens); // nobody would run what closes them in time
        // What ends the program comes from what is called here, not from the thread.
        if let Err(error) = end(&task, Err(lost)) {
            error.write_unraisable(py, None);
        }
    }
}

/// What `PyO3` made of the end of an object.
static DEALLOC: OnceLock<ffi::destructor> = OnceLock::new();

/// Not all on one stack: a result, or what a coroutine holds, may be the last to hold the next thread, and so on.
unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    HERE.with(|here| {
        let depth = here.dying.get();
        if depth >= DEALLOC_DEPTH {
            // SAFETY: ours alone; the collector must not see it until it is its turn.
            unsafe { ffi::PyObject_GC_UnTrack(object.cast()) };
            DYING.with(|waiting| waiting.borrow_mut().push(object));
            return here.deferred.set(true);
        }
        here.dying.set(depth + 1);
        // SAFETY: the last reference to a Thread has gone.
        unsafe { bury(here, object) };
        while depth == 0 && here.deferred.get() {
            let Some(object) = DYING.with(|waiting| waiting.borrow_mut().pop()) else {
                here.deferred.set(false);
                drop(DYING.with(|waiting| waiting.take()));
                break;
            };
            // SAFETY: as above; it was taken from the collector when it was put there.
            unsafe {
                ffi::PyObject_GC_Track(object.cast());
                bury(here, object);
            }
        }
        here.dying.set(depth);
    });
}

/// # Safety
/// The last reference to the Thread has gone.
unsafe fn bury(here: &Here, object: *mut ffi::PyObject) {
    let this = task_of(object);
    if !this.coro.is_empty() || this.unseen.load(Ordering::Acquire) {
        // SAFETY: as the caller promises. Negative: there is a reference again.
        if unsafe { ffi::PyObject_CallFinalizerFromDealloc(object) } < 0 {
            return;
        }
    }
    this.leave_roster();
    // SAFETY: as the caller promises, so that nobody holds its lock; what goes with it, where it is plain, goes without
    // asking whether the OS thread is attached. The class is a heap type, of which each object holds a reference.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        if this.is_done() && (*this.state.data_ptr()).is_plain() && !has_weak_references(object) {
            ffi::PyObject_GC_UnTrack(object.cast());
            // By the object's pointer, since the other one is a shared reference's.
            let block = Block { object, task: object.with_addr(ptr::from_ref(this).addr()).cast() };
            // The collector would not finalize it again.
            let finalized = ffi::PyObject_GC_IsFinalized(object) != 0;
            ptr::drop_in_place(block.task);
            if finalized || !here.keep_spare(block) {
                ffi::PyObject_GC_Del(object.cast());
            }
            return ffi::Py_DECREF(kind.cast());
        }
        if let Some(dealloc) = DEALLOC.get() {
            dealloc(object);
        }
    }
}

/// `false`: no weak reference knows of the object any more, nor will one. On free-threaded builds the last one may go at
/// this moment, in another OS thread, which takes it off by an atomic store, and touches the object no more after that.
///
/// # Safety
/// An object of a class that has a place for weak references, to which no reference is left.
unsafe fn has_weak_references(object: *mut ffi::PyObject) -> bool {
    // SAFETY: as the caller promises; the class says where the place is, which is aligned as pointers are.
    unsafe {
        let place = object.byte_offset((*ffi::Py_TYPE(object)).tp_weaklistoffset);
        !AtomicPtr::<ffi::PyObject>::from_ptr(place.cast()).load(Ordering::Acquire).is_null()
    }
}

/// How the interpreter gives a coroutine's `__name__`.
static NAME: OnceLock<ffi::getter> = OnceLock::new();

/// The coroutine's own name, got without looking for the attribute, which took a tenth of what a short thread takes.
fn label_of(coro: &Bound<'_, PyAny>) -> Py<PyString> {
    let py = coro.py();
    // SAFETY: a live object.
    let is_coroutine = unsafe { ffi::PyCoro_CheckExact(coro.as_ptr()) } != 0;
    let name = match NAME.get().filter(|_| is_coroutine) {
        // SAFETY: the getter is that of coroutines, and `coro` is one. A new reference, or null with an exception set.
        Some(getter) => unsafe { Bound::from_owned_ptr_or_err(py, getter(coro.as_ptr(), ptr::null_mut())) },
        None => coro.getattr(intern!(py, "__name__")),
    };
    match name.map(Bound::cast_into::<PyString>) {
        Ok(Ok(name)) => name.unbind(),
        _ => PyString::intern(py, "thread").unbind(),
    }
}

fn find_name_getter() -> Option<ffi::getter> {
    // SAFETY: the table of the interpreter's own type, which ends with an entry without a name.
    unsafe {
        let mut entry = ffi::PyCoro_Type.tp_getset;
        while !entry.is_null() && !(*entry).name.is_null() {
            if CStr::from_ptr((*entry).name) == c"__name__" && (*entry).closure.is_null() {
                return (*entry).get;
            }
            entry = entry.add(1);
        }
    }
    None
}

/// What `PyO3` made of `await`.
static AWAIT: OnceLock<ffi::unaryfunc> = OnceLock::new();

/// Most threads that are awaited have ended by then, and returned None.
unsafe extern "C" fn awaited(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the slot with a Thread, attached.
    let py = unsafe { Python::assume_attached() };
    if task_of(object).returned_none()
        && let Some(over) = ops::over(py)
    {
        return over.into_ptr();
    }
    // SAFETY: as the interpreter called us.
    AWAIT.get().map_or(ptr::null_mut(), |original| unsafe { original(object) })
}

/// What `bury` and `Block` take for granted of the class: objects of one size, that the collector sees, each with a place
/// for weak references, which is all that outlives its `Task`; and no class below it.
///
/// # Safety
/// A live class.
unsafe fn can_be_made_again(kind: *const ffi::PyTypeObject) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        (*kind).tp_weaklistoffset != 0
            && (*kind).tp_dictoffset == 0
            && (*kind).tp_itemsize == 0
            && ffi::PyType_GetFlags(kind.cast_mut()) & (ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_BASETYPE)
                == ffi::Py_TPFLAGS_HAVE_GC
    }
}

/// Gives the class what `PyO3` has no word for: an end that Python hears of; and a short way to await it.
pub fn make_type(py: Python<'_>) -> PyResult<()> {
    if let Some(getter) = find_name_getter() {
        let _first = NAME.set(getter);
    }
    let kind = Task::type_object_raw(py);
    // SAFETY: a class of ours, of which there is no object yet.
    unsafe {
        if !can_be_made_again(kind) {
            return Err(PyImportError::new_err(
                "sock was built wrong: sock.Thread has no place for weak references, or objects of several kinds, so that \
                 their memory cannot be used again",
            ));
        }
        if let Some(original) = (*kind).tp_dealloc {
            let _first = DEALLOC.set(original);
            (*kind).tp_dealloc = Some(dealloc);
            (*kind).tp_finalize = Some(finalize);
        }
        let methods = (*kind).tp_as_async;
        if let Some(original) = (*methods).am_await {
            let _first = AWAIT.set(original);
            (*methods).am_await = Some(awaited);
        }
    }
    Ok(())
}

impl Task {
    fn make<'py>(
        here: &Here,
        hub: Py<Held>,
        run: u64,
        coro: Bound<'py, PyAny>,
        name: Option<&Bound<'py, PyString>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = coro.py();
        if hub.get().0.is_forked() {
            return Err(PyRuntimeError::new_err("this Poller belongs to the parent process: make a new one"));
        }
        // SAFETY: a new reference, or null with an exception set.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }?;
        let label = name.map_or_else(|| label_of(&coro), |name| name.clone().unbind());
        // SAFETY: parts of a Thread, which is an object soon; until then `py` is here.
        let (hub, label) = unsafe { (Attached::new(hub), Attached::new(label)) };
        let task = Task {
            wait: Wait::new(),
            hub,
            id: here.next_id(),
            run,
            label,
            named: name.is_some(),
            ended: AtomicU8::new(End::NotYet as u8),
            unseen: AtomicBool::new(false),
            context: Own::new(context),
            coro: Own::new(coro),
            limit: AtomicU64::new(NEVER),
            cancels: AtomicU32::new(0),
            condemned: AtomicBool::new(false),
            place: AtomicUsize::new(UNLISTED),
            state: parking_lot::Mutex::default(),
        };
        match here.take_spare() {
            Some(spare) => Ok(spare.fill(py, task)),
            None => Bound::new(py, task),
        }
    }

    /// Runs something in the thread's own context.
    fn in_context<T>(&self, py: Python<'_>, run: impl FnOnce() -> T) -> PyResult<T> {
        let context = self.context.0.load(Ordering::Relaxed);
        // SAFETY: a live context, since the thread has not ended; an error is fetched at once.
        if unsafe { ffi::PyContext_Enter(context) } < 0 {
            return Err(PyErr::fetch(py));
        }
        let entered = Entered(context);
        let result = run();
        mem::forget(entered);
        // SAFETY: entered above.
        if unsafe { ffi::PyContext_Exit(context) } < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(result)
    }

    /// It has ended. It stays on the roster while somebody has to hear of its failure.
    fn finish(&self, unseen: bool) {
        if self.hub().is_forked() {
            // Nobody counts it any more, and OS threads that are gone may hold the locks.
            return;
        }
        drop(self.wait.finish(&self.hub().timers));
        if self.place.load(Ordering::Relaxed) == UNLISTED {
            return;
        }
        let mut roster = self.hub().roster.lock();
        if !unseen {
            self.leave(&mut roster);
        }
        self.hub().count_live(&mut roster, -1);
        drop(roster);
        if self.hub().live() == 0 {
            // Whoever polls for it in another OS thread has nothing left to wait for.
            self.hub().interrupt();
        }
    }
}

/// A context that is left by a panic.
struct Entered(*mut ffi::PyObject);

impl Drop for Entered {
    fn drop(&mut self) {
        // SAFETY: the context was entered by this OS thread, which is attached. It can fail where something else did not
        // leave its own one; there is nobody to tell of it.
        unsafe {
            if ffi::PyContext_Exit(self.0) < 0 {
                ffi::PyErr_Clear();
            }
        }
    }
}

#[pymethods]
impl Task {
    /// One turn, inside whatever runs here.
    fn _turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        HERE.with(|here| here.turn(slf))
    }

    /// What the thread runs; None once it has ended.
    #[getter]
    fn _coro<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let _state = self.state.lock();
        // SAFETY: the lock is held, and the result is a reference of its own.
        unsafe { self.coro.get(py) }.map(Borrowed::to_owned)
    }

    /// The number of the `run()` inside which it was started.
    #[getter]
    fn _run(&self) -> u64 {
        self.run
    }

    #[getter]
    fn _agens(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.lock().agens.as_ref().map(|agens| agens.clone_ref(py))
    }

    #[setter(_agens)]
    fn set_agens(&self, agens: Option<Py<PyAny>>) {
        let old = mem::replace(&mut self.state.lock().agens, agens);
        drop(old);
    }

    /// What ended the thread, if that was an exception.
    #[getter]
    fn _exc(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.state.lock().outcome {
            Some(Err(exc)) => Some(exc.clone_ref(py)),
            _ => None,
        }
    }

    /// Its failure is known to somebody now. True: it was not before.
    fn _see(&self) -> bool {
        self.see()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.context.visit(&visit)?;
        self.coro.visit(&visit)?;
        // What is in there is looked at by nobody while the world is stopped, except where it was stopped under it.
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.value)?;
        visit.call(&state.agens)?;
        if let Some(Ok(object) | Err(object)) = &state.outcome {
            visit.call(&**object)?;
        }
        state.told.iter().try_for_each(|each| match each {
            Told::Joiner(joiner, _) => visit.call(joiner),
            Told::Callback(called) => visit.call(called),
        })
    }

    fn __clear__(&self) {
        let mut state = self.state.lock();
        let cleared = (self.coro.replace(None), self.context.replace(None), mem::take(&mut *state));
        drop(state);
        drop(cleared);
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = if self.is_done() { "done" } else { "alive" };
        format!("<sock.Thread '{}' {state}>", self.full_name(py))
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        ops::join(slf)
    }

    /// What the thread returned; raises what ended it. ``RuntimeError`` while it has not ended.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.outcome(py) {
            Some(outcome) => outcome,
            None if self.is_done() => Ok(py.None()),
            None => Err(PyRuntimeError::new_err(format!("thread '{}' has not ended: await it", self.full_name(py)))),
        }
    }

    /// What the thread waits for, such as 'recv tcp 127.0.0.1:7000' or 'sleep 1.5 s'; None while it does not.
    #[getter]
    fn waiting<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("sock._inspect")?.call_method1("waiting", (slf,))?.get_item(0)
    }

    /// Where the thread is: its frames, the outermost first, as ``traceback`` has them. Empty once it has ended.
    fn stack<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("sock._inspect")?.call_method1("stack", (slf,))
    }

    /// Calls ``f(thread)`` when the thread ends; at once if it has ended.
    fn onfinish(slf: &Bound<'_, Self>, f: Py<PyAny>) -> PyResult<()> {
        let called = f.bind(slf.py());
        if !called.is_callable() {
            let kind = called.get_type();
            return Err(PyTypeError::new_err(format!("onfinish takes a function of the thread, not {}", kind.name()?)));
        }
        let this = slf.get();
        {
            let mut state = this.state.lock();
            if !this.is_done() {
                state.told.push(Told::Callback(f));
                return Ok(());
            }
        }
        f.call1(slf.py(), (slf,)).map(drop)
    }

    /// As given to ``newthread``; else the coroutine's, and a number.
    #[getter]
    fn name(&self, py: Python<'_>) -> String {
        self.full_name(py)
    }

    /// Whether the thread has ended.
    #[getter]
    fn done(&self) -> bool {
        self.is_done()
    }

    /// Whether it waits, and nothing has ended that yet.
    #[getter]
    fn _waits(&self) -> bool {
        self.wait.is_waiting()
    }

    /// Calls ``look(thread)`` while the thread waits, and does not let it run meanwhile; None if it does not wait.
    fn _while_it_waits<'py>(slf: &Bound<'py, Self>, look: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let this = slf.get();
        if !this.wait.hold() {
            return Ok(None);
        }
        let found = look.call1((slf,));
        if this.wait.let_go() {
            this.hub().push(slf.clone().unbind());
        }
        found.map(Some)
    }

    /// Raises ``Cancelled`` where the thread waits, or at its next operation. Its sockets stay open and whole.
    fn cancel(slf: &Bound<'_, Self>) {
        let this = slf.get();
        this.cancels.fetch_add(1, Ordering::Relaxed);
        if this.wait.cancel() {
            this.hub().push(slf.clone().unbind());
        }
    }

    /// `cancel` by its group or its `run()`: once, so that its `finally` blocks can wait.
    fn _condemn(slf: &Bound<'_, Self>) {
        if !slf.get().condemned.swap(true, Ordering::AcqRel) {
            Self::cancel(slf);
        }
    }

    /// How often it was cancelled.
    #[getter]
    fn _cancels(&self) -> u32 {
        self.cancels.load(Ordering::Relaxed)
    }

    /// Takes a cancel back; how many are left.
    fn _uncancel(&self) -> u32 {
        self.cancels.fetch_sub(1, Ordering::Relaxed) - 1
    }

    /// Forgets a cancel that has not come out yet.
    fn _take_cancelled(&self) -> bool {
        self.wait.take_cancelled()
    }

    /// Ends the thread's ``suspend()``, which returns ``value``; the thread runs at once, up to its next wait.
    ///
    /// From another OS thread, or nested too deeply, it is queued instead. A resume that comes before the ``suspend()``
    /// is kept for it; ``RuntimeError`` when one is kept already, or the thread has ended.
    #[pyo3(signature = (value=None))]
    fn resume(slf: &Bound<'_, Self>, value: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let refused = |why: &str| Err(PyRuntimeError::new_err(format!("thread '{}' {why}", this.full_name(py))));
        if this.is_done() {
            return refused("has ended: it cannot be resumed");
        }
        let value = value.unwrap_or_else(|| py.None());
        let epoch = {
            let mut state = this.state.lock();
            if state.value.is_some() {
                drop(state);
                return refused("was resumed already, and has not suspended itself since");
            }
            state.value = Some(value);
            state.suspended.take()
        };
        if !epoch.is_some_and(|epoch| this.wait.wake(epoch, Reason::Event)) {
            return Ok(());
        }
        if HERE.with(|here| here.nested.get()) < NESTING && is_here(this.hub()) {
            this.wait.enter();
            return HERE.with(|here| here.turn(slf));
        }
        this.hub().push(slf.clone().unbind());
        Ok(())
    }

    /// The time, on the poller's clock, that no wait goes beyond.
    #[getter]
    fn _limit(&self) -> u64 {
        self.limit()
    }

    /// Sets the time, on the poller's clock, that no wait goes beyond; the one before.
    fn _set_limit(&self, limit: u64) -> u64 {
        self.set_limit(limit)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        drop((self.coro.replace(None), self.context.replace(None)));
        if !self.is_done() {
            self.finish(false);
        }
    }
}

/// The thread that runs now; None outside of any.
#[pyfunction]
pub fn current(py: Python<'_>) -> Option<Bound<'_, Task>> {
    running(py).map(Borrowed::to_owned)
}

/// Whether this OS thread runs a loop, or a thread.
#[pyfunction]
pub fn is_polling() -> bool {
    HERE.with(Here::is_polling)
}

/// Threads that start here outside of any thread belong to that `run()` from now on.
#[pyfunction]
pub fn enter_run(number: u64) {
    HERE.with(|here| here.run.set(number));
}

/// In the child of a fork nothing runs, and the poller is the parent's.
#[pyfunction]
pub fn after_fork() {
    HERE.with(|here| {
        here.current.set(ptr::null_mut());
        here.nested.set(0);
        here.looping.set(false);
    });
    know_hub((0, Weak::new()));
}

/// The threads of a hub that have not ended, or failed unseen.
pub fn listed<'py>(py: Python<'py>, hub: &Hub) -> Vec<Bound<'py, Task>> {
    if let Some(running) = running(py) {
        enlist(&running);
    }
    let roster = hub.roster.lock();
    roster.iter().filter_map(|(_, listed)| listed.upgrade(py)).collect()
}

/// The number of the next thread that starts here; those after it follow, while no other OS thread starts any.
pub fn first_id() -> u64 {
    HERE.with(|here| here.ids.set((0, 0)));
    IDS.load(Ordering::Relaxed)
}
