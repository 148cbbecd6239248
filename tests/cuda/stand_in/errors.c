// Errors of libcudart: the last one, those asked for, and a lost device.
#include "cudart.h"

static __thread cudaError_t last;
static cudaError_t lost;

cudaError_t result(cudaError_t error) {
    if (error) last = error;
    return error;
}

void lose_device(cudaError_t error) {
    if (!lost) event("lost %d", error);
    lost = error;
}

cudaError_t enter(const char *function) {
    return result(lost ? lost : (cudaError_t)fault(function));
}

OUT cudaError_t cudaGetLastError(void) {
    cudaError_t error = lost ? lost : last;
    last = cudaSuccess;
    return error;
}

OUT cudaError_t cudaPeekAtLastError(void) {
    return lost ? lost : last;
}

static const struct {
    cudaError_t code;
    const char *name, *text;
} ERRORS[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
};

static int row(cudaError_t code) {
    int count = sizeof ERRORS / sizeof *ERRORS;
    for (int i = 0; i < count; i++)
        if (ERRORS[i].code == code) return i;
    return -1;
}

OUT const char *cudaGetErrorName(cudaError_t code) {
    return row(code) < 0 ? "cudaErrorUnknown" : ERRORS[row(code)].name;
}

OUT const char *cudaGetErrorString(cudaError_t code) {
    return row(code) < 0 ? "unknown error" : ERRORS[row(code)].text;
}
