// Streams, events and captured graphs. All work is done at once, so that streams and events are only names.
#include "cudart.h"

static int capturing;
static long captured;

int is_capturing(void) {
    return capturing;
}

void forbid_capture(const char *function) {
    if (capturing) event("illegal %s", function);
}

void capture_one(void) {
    captured += capturing;
}

OUT cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    ENTER();
    static long streams;
    *stream = (cudaStream_t)(0x1000000 + 16 * __sync_add_and_fetch(&streams, 1));
    return cudaSuccess;
}

OUT cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithFlags(stream, 0);
}

OUT cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    ENTER();
    forbid_capture(__func__);
    event("wait stream");
    return cudaSuccess;
}

OUT cudaError_t cudaDeviceSynchronize(void) {
    ENTER();
    forbid_capture(__func__);
    event("wait device");
    return cudaSuccess;
}

OUT cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    ENTER();
    forbid_capture(__func__);
    event("capture begin");
    capturing = 1;
    captured = 0;
    return cudaSuccess;
}

OUT cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    // Also a capture that fails ends.
    capturing = 0;
    *graph = NULL;
    ENTER();
    event("capture end %ld", captured);
    *graph = (cudaGraph_t)&captured;
    return cudaSuccess;
}

OUT cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

OUT cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
    ENTER();
    *executable = (cudaGraphExec_t)graph;
    return cudaSuccess;
}

OUT cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    ENTER();
    event("graph launch");
    return cudaSuccess;
}

OUT cudaError_t cudaEventCreateWithFlags(cudaEvent_t *made, unsigned flags) {
    ENTER();
    *made = (cudaEvent_t)&captured;
    return cudaSuccess;
}

OUT cudaError_t cudaEventCreate(cudaEvent_t *made) {
    return cudaEventCreateWithFlags(made, 0);
}

OUT cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    *milliseconds = 0;
    return cudaSuccess;
}

OUT cudaError_t cudaEventRecord(cudaEvent_t it, cudaStream_t stream) {
    ENTER();
    return cudaSuccess;
}

OUT cudaError_t cudaEventSynchronize(cudaEvent_t it) {
    ENTER();
    forbid_capture(__func__);
    return cudaSuccess;
}

OUT cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t it, unsigned flags) {
    ENTER();
    return cudaSuccess;
}

OUT cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument) {
    ENTER();
    function(argument);
    return cudaSuccess;
}
