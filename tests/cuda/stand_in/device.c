// The imitated GPUs: number, generation and size come from STAND_IN_DEVICES, STAND_IN_SM and STAND_IN_VRAM (memory.c).
// Properties other than these are those of an H100; ONNX Runtime chooses kernels by generation, shared memory and processors.
#include "cudart.h"
#include <stdio.h>
#include <string.h>

static __thread int current;

static int devices(void) {
    return (int)setting("STAND_IN_DEVICES", 1);
}

static int generation(void) {
    return (int)setting("STAND_IN_SM", 90);
}

OUT cudaError_t cudaGetDeviceCount(int *count) {
    ENTER();
    *count = devices();
    return *count ? cudaSuccess : result(cudaErrorNoDevice);
}

OUT cudaError_t cudaSetDevice(int device) {
    ENTER();
    if (!devices()) return result(cudaErrorNoDevice);
    if (device < 0 || device >= devices()) return result(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

OUT cudaError_t cudaGetDevice(int *device) {
    ENTER();
    *device = current;
    return cudaSuccess;
}

enum {
    THREADS = 1024,
    BLOCK_SHARED = 49152,
    MOST_BLOCK_SHARED = 232448,
    PROCESSOR_SHARED = 233472,
    REGISTERS = 65536,
    PROCESSORS = 132,
    PROCESSOR_THREADS = 2048,
    PROCESSOR_BLOCKS = 32,
    CACHE = 50 << 20,
};

OUT cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    ENTER();
    size_t unused, total;
    cudaMemGetInfo(&unused, &total);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "Stand-in SM %d", generation());
    p->totalGlobalMem = total;
    p->major = generation() / 10;
    p->minor = generation() % 10;
    p->warpSize = 32;
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = THREADS;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->sharedMemPerBlock = BLOCK_SHARED;
    p->sharedMemPerBlockOptin = MOST_BLOCK_SHARED;
    p->sharedMemPerMultiprocessor = PROCESSOR_SHARED;
    p->regsPerBlock = p->regsPerMultiprocessor = REGISTERS;
    p->multiProcessorCount = PROCESSORS;
    p->maxThreadsPerMultiProcessor = PROCESSOR_THREADS;
    p->maxBlocksPerMultiProcessor = PROCESSOR_BLOCKS;
    p->l2CacheSize = CACHE;
    p->concurrentKernels = p->unifiedAddressing = p->cooperativeLaunch = p->memoryPoolsSupported = 1;
    return cudaSuccess;
}

OUT cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    ENTER();
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY: *value = THREADS; break;
    case cudaDevAttrMaxBlockDimZ: *value = 64; break;
    case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: *value = 65535; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = BLOCK_SHARED; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = MOST_BLOCK_SHARED; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = PROCESSOR_SHARED; break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = REGISTERS; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMultiProcessorCount: *value = PROCESSORS; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = PROCESSOR_THREADS; break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: *value = PROCESSOR_BLOCKS; break;
    case cudaDevAttrL2CacheSize: *value = CACHE; break;
    case cudaDevAttrComputeCapabilityMajor: *value = generation() / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = generation() % 10; break;
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
    default: *value = 0;
    }
    return cudaSuccess;
}

OUT cudaError_t cudaDriverGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}

OUT cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}
