// Kernels: known by name, launched, logged, never run.
#include "cudart.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const void *function;
    const char *name;
} Kernel;

// Tens of thousands of kernels register while the provider loads, before the first launch.
static Kernel *kernels;
static int count, room, sorted;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int by_function(const void *a, const void *b) {
    const char *x = ((const Kernel *)a)->function, *y = ((const Kernel *)b)->function;
    return (x > y) - (x < y);
}

static const char *name_of(const void *function) {
    pthread_mutex_lock(&lock);
    if (!sorted) qsort(kernels, count, sizeof *kernels, by_function);
    sorted = 1;
    Kernel wanted = {function, NULL}, *found = bsearch(&wanted, kernels, count, sizeof *kernels, by_function);
    pthread_mutex_unlock(&lock);
    return found ? found->name : "unknown";
}

OUT void __cudaRegisterFunction(void **binary, const char *host, char *device, const char *name, int limit, void *thread, void *block,
                                void *block_size, void *grid_size, int *warp) {
    pthread_mutex_lock(&lock);
    if (count == room) {
        room = room ? 2 * room : 1 << 16;
        kernels = realloc(kernels, room * sizeof *kernels);
        if (!kernels) abort();
    }
    kernels[count++] = (Kernel){host, name};
    sorted = 0;
    pthread_mutex_unlock(&lock);
}

OUT void **__cudaRegisterFatBinary(void *binary) {
    static void *handle;
    return &handle;
}

OUT void __cudaRegisterFatBinaryEnd(void **binary) {}
OUT void __cudaUnregisterFatBinary(void **binary) {}
OUT void __cudaRegisterVar(void **binary, char *host, char *device, const char *name, int external, size_t size, int constant, int global) {}

static cudaError_t launch(const void *function, dim3 grid, dim3 block) {
    static long launches;
    // A device is lost by what runs on it: STAND_IN_LOST=N is the N-th launch.
    if (__sync_add_and_fetch(&launches, 1) == setting("STAND_IN_LOST", 0)) lose_device(cudaErrorLaunchFailure);
    cudaError_t error = enter("cudaLaunchKernel");
    if (error) return error;
    capture_one();
    event("launch %s grid %u %u %u block %u %u %u%s", name_of(function), grid.x, grid.y, grid.z, block.x, block.y, block.z,
          is_capturing() ? " captured" : "");
    return cudaSuccess;
}

// `kernel<<<grid, block, shared, stream>>>(…)` compiles to a push, and a call of a stub that pops and launches.
static __thread struct {
    dim3 grid, block;
    size_t shared;
    void *stream;
} pushed;

OUT unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
    pushed.grid = grid;
    pushed.block = block;
    pushed.shared = shared;
    pushed.stream = stream;
    return 0;
}

OUT cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    *(void **)stream = pushed.stream;
    return cudaSuccess;
}

OUT cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
    *kernel = (cudaKernel_t)function;
    return cudaSuccess;
}

OUT cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
    return launch(kernel, grid, block);
}

OUT cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
    return launch(function, grid, block);
}

OUT cudaError_t cudaLaunchCooperativeKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                                            cudaStream_t stream) {
    return launch(function, grid, block);
}

OUT cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **arguments) {
    return launch(function, config->gridDim, config->blockDim);
}

OUT cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *function) {
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 64;
    attributes->maxDynamicSharedSizeBytes = 232448;
    attributes->binaryVersion = attributes->ptxVersion = (int)setting("STAND_IN_SM", 90);
    return cudaSuccess;
}

OUT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int threads, size_t shared,
                                                                       unsigned flags) {
    *blocks = 2;
    return cudaSuccess;
}

// Kernels that are compiled into the provider as a library image are found by name.
OUT cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, enum cudaJitOption *options, void **values, unsigned number,
                                    enum cudaLibraryOption *library_options, void **library_values, unsigned library_number) {
    *library = (cudaLibrary_t)&kernels;
    return cudaSuccess;
}

OUT cudaError_t cudaLibraryGetKernel(cudaKernel_t *kernel, cudaLibrary_t library, const char *name) {
    char *copy = strdup(name);
    if (!copy) return result(cudaErrorMemoryAllocation);
    __cudaRegisterFunction(NULL, copy, NULL, copy, 0, NULL, NULL, NULL, NULL, NULL);
    *kernel = (cudaKernel_t)copy;
    return cudaSuccess;
}

static int driver_function(void) {
    return 0;
}

OUT cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long flags,
                                                 enum cudaDriverEntryPointQueryResult *found) {
    event("driver %s", symbol);
    *function = (void *)driver_function;
    if (found) *found = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
