// What the files of libcudart share.
#pragma once
#include "stand_in.h"
#include <cuda_runtime_api.h>

// Remembers an error as the runtime does, for cudaGetLastError; returns it.
cudaError_t result(cudaError_t error);

// The start of every function that can fail: the fault asked of it, or the error of a lost device.
cudaError_t enter(const char *function);
#define ENTER()                                   \
    do {                                          \
        cudaError_t refused = enter(__func__);    \
        if (refused) return refused;              \
    } while (0)

// The device does not recover: all later calls of this process fail with this error.
void lose_device(cudaError_t error);

// Whether a stream is being captured. One at a time is enough for ONNX Runtime.
int is_capturing(void);

// Logs a call that is not allowed while a stream is captured.
void forbid_capture(const char *function);

// One more kernel, graph or library call on a stream under capture.
void capture_one(void);
