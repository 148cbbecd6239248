// Device memory that no host code can touch, and copies.
//
// A block is a memory file with two views: the address that callers get is without access, so that host code which reads or
// writes a device pointer crashes; copies and memsets use the other view.
#define _GNU_SOURCE
#include "cudart.h"
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, BLOCKS = 1 << 16, FILLED = 64 << 20 };

typedef struct {
    char *device, *host;
    size_t size;
} Block;

static Block blocks[BLOCKS];
static int count;
static size_t used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t total(void) {
    return (size_t)setting("STAND_IN_VRAM", 80ll << 30);
}

// Finite and varying in f16, bf16 and f32, so that checks for NaN and for pictures of one colour pass. Large blocks stay zero: their
// pages cost nothing until something is written.
static void fill(Block block) {
    uint32_t *words = (uint32_t *)block.host;
    for (size_t i = 0; block.size <= FILLED && i < block.size / 4; i++) words[i] = 0x3e003e00u + (i & 0x7f) * 0x10001u;
}

static cudaError_t allocate(void **address, size_t bytes) {
    size_t size = bytes ? (bytes + PAGE - 1) / PAGE * PAGE : PAGE;
    *address = NULL;
    pthread_mutex_lock(&lock);
    int file = used + size > total() || count == BLOCKS ? -1 : memfd_create("device", 0);
    if (file < 0 || ftruncate(file, size)) {
        pthread_mutex_unlock(&lock);
        event("oom %zu used %zu", bytes, used);
        return result(cudaErrorMemoryAllocation);
    }
    int flags = MAP_SHARED | MAP_NORESERVE;
    Block block = {mmap(NULL, size, PROT_NONE, flags, file, 0), mmap(NULL, size, PROT_READ | PROT_WRITE, flags, file, 0), size};
    close(file);
    blocks[count++] = block;
    used += size;
    event("malloc %zu used %zu", bytes, used);
    pthread_mutex_unlock(&lock);
    fill(block);
    *address = block.device;
    return cudaSuccess;
}

static Block *find(const void *address) {
    for (int i = count - 1; i >= 0; i--)
        if ((char *)address >= blocks[i].device && (char *)address < blocks[i].device + blocks[i].size) return &blocks[i];
    return NULL;
}

// The accessible address of device memory; host memory is its own.
static void *accessible(const void *address, int *on_device) {
    pthread_mutex_lock(&lock);
    Block *block = find(address);
    void *host = block ? block->host + ((char *)address - block->device) : (void *)address;
    pthread_mutex_unlock(&lock);
    if (on_device) *on_device = block != NULL;
    return host;
}

static cudaError_t release(void *address) {
    if (!address) return cudaSuccess;
    pthread_mutex_lock(&lock);
    Block *block = find(address);
    cudaError_t error = block && block->device == address ? cudaSuccess : cudaErrorInvalidValue;
    if (!error) {
        munmap(block->device, block->size);
        munmap(block->host, block->size);
        used -= block->size;
        *block = blocks[--count];
        event("free used %zu", used);
    }
    pthread_mutex_unlock(&lock);
    return result(error);
}

OUT cudaError_t cudaMalloc(void **address, size_t bytes) {
    ENTER();
    forbid_capture(__func__);
    return allocate(address, bytes);
}

OUT cudaError_t cudaMallocFromPoolAsync(void **address, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
    ENTER();
    return allocate(address, bytes);
}

OUT cudaError_t cudaFree(void *address) {
    ENTER();
    if (address) forbid_capture(__func__);
    return release(address);
}

OUT cudaError_t cudaFreeAsync(void *address, cudaStream_t stream) {
    ENTER();
    return release(address);
}

static cudaError_t pinned(void **address, size_t bytes) {
    event("pinned %zu", bytes);
    return posix_memalign(address, PAGE, bytes ? bytes : 1) ? result(cudaErrorMemoryAllocation) : cudaSuccess;
}

OUT cudaError_t cudaMallocHost(void **address, size_t bytes) {
    ENTER();
    return pinned(address, bytes);
}

OUT cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
    ENTER();
    return pinned(address, bytes);
}

OUT cudaError_t cudaFreeHost(void *address) {
    free(address);
    return cudaSuccess;
}

OUT cudaError_t cudaMemGetInfo(size_t *unused, size_t *all) {
    ENTER();
    *all = total();
    *unused = *all - used;
    return cudaSuccess;
}

OUT cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *address) {
    int on_device;
    accessible(address, &on_device);
    memset(attributes, 0, sizeof *attributes);
    attributes->type = on_device ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    attributes->devicePointer = on_device ? (void *)address : NULL;
    attributes->hostPointer = on_device ? NULL : (void *)address;
    return cudaSuccess;
}

// Nothing computes, but programs check what a probe returns: STAND_IN_ANSWER (bytes in hexadecimal) is what the host reads instead
// in every copy from the device of exactly this many bytes.
static int answered(void *host, size_t bytes) {
    const char *answer = getenv("STAND_IN_ANSWER");
    if (!answer || strlen(answer) != 2 * bytes) return 0;
    for (size_t i = 0; i < bytes; i++) {
        char digits[3] = {answer[2 * i], answer[2 * i + 1], 0};
        ((unsigned char *)host)[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return 1;
}

// Rows of `width` bytes; a plain copy is one row. Copies of more than STAND_IN_SKIP bytes are only logged: checkpoints of true size
// then need no memory.
static void copy(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows) {
    int to_device, from_device;
    char *target = accessible(to, &to_device);
    const char *source = accessible(from, &from_device);
    event("copy %c2%c %zu%s", from_device ? 'D' : 'H', to_device ? 'D' : 'H', width * rows, is_capturing() ? " captured" : "");
    if (from_device && !to_device && rows == 1 && answered(target, width)) return;
    if ((long long)(width * rows) > setting("STAND_IN_SKIP", INT64_MAX)) return;
    for (size_t row = 0; row < rows; row++) memmove(target + row * to_pitch, source + row * from_pitch, width);
}

OUT cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    ENTER();
    forbid_capture(__func__);
    copy(to, 0, from, 0, bytes, 1);
    return cudaSuccess;
}

OUT cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    ENTER();
    copy(to, 0, from, 0, bytes, 1);
    return cudaSuccess;
}

OUT cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                                  enum cudaMemcpyKind kind, cudaStream_t stream) {
    ENTER();
    copy(to, to_pitch, from, from_pitch, width, height);
    return cudaSuccess;
}

OUT cudaError_t cudaMemcpyFromSymbol(void *to, const void *symbol, size_t bytes, size_t offset, enum cudaMemcpyKind kind) {
    ENTER();
    forbid_capture(__func__);
    memset(accessible(to, NULL), 0, bytes);
    return cudaSuccess;
}

OUT cudaError_t cudaMemset(void *address, int value, size_t bytes) {
    ENTER();
    forbid_capture(__func__);
    memset(accessible(address, NULL), value, bytes);
    return cudaSuccess;
}

OUT cudaError_t cudaMemsetAsync(void *address, int value, size_t bytes, cudaStream_t stream) {
    ENTER();
    memset(accessible(address, NULL), value, bytes);
    return cudaSuccess;
}

OUT cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const struct cudaMemPoolProps *properties) {
    ENTER();
    *pool = (cudaMemPool_t)&blocks;
    return cudaSuccess;
}

OUT cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
    memset(value, 0, 8);
    return cudaSuccess;
}
