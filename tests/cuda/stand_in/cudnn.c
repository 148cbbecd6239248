// libcudnn: the graph interface answers like one engine that takes every operation and needs no workspace.
#include "stand_in.h"
#include <stdlib.h>
#include <string.h>

enum { DESCRIPTOR = 1024, FAILED = 5000 };

OUT size_t cudnnGetVersion(void) { return 92800; }
OUT size_t cudnnGetCudartVersion(void) { return 13000; }

OUT const char *cudnnGetErrorString(int status) {
    return status ? "CUDNN_STATUS_EXECUTION_FAILED" : "CUDNN_STATUS_SUCCESS";
}

OUT void cudnnGetLastErrorString(char *text, size_t size) {
    if (size) *text = 0;
}

OUT int cudnnCreate(void **handle) {
    static int it;
    *handle = &it;
    return fault(__func__);
}

OUT int cudnnGetStream(void *handle, void **stream) {
    *stream = (void *)0x1000010;
    return 0;
}

#define DESCRIPTOR_OF(function)          \
    OUT int function(void **descriptor) { \
        *descriptor = calloc(1, DESCRIPTOR); \
        return *descriptor ? 0 : 2;      \
    }
DESCRIPTOR_OF(cudnnCreateActivationDescriptor)
DESCRIPTOR_OF(cudnnCreateConvolutionDescriptor)
DESCRIPTOR_OF(cudnnCreateDropoutDescriptor)
DESCRIPTOR_OF(cudnnCreateFilterDescriptor)
DESCRIPTOR_OF(cudnnCreateLRNDescriptor)
DESCRIPTOR_OF(cudnnCreatePoolingDescriptor)
DESCRIPTOR_OF(cudnnCreateRNNDataDescriptor)
DESCRIPTOR_OF(cudnnCreateRNNDescriptor)
DESCRIPTOR_OF(cudnnCreateReduceTensorDescriptor)
DESCRIPTOR_OF(cudnnCreateTensorDescriptor)

OUT int cudnnGetReductionIndicesSize(void *handle, void *reduction, void *a, void *c, size_t *bytes) {
    *bytes = 0;
    return 0;
}

OUT int cudnnGetReductionWorkspaceSize(void *handle, void *reduction, void *a, void *c, size_t *bytes) {
    *bytes = 0;
    return 0;
}

OUT int cudnnReduceTensor(void *handle) {
    event("cudnn reduce");
    return fault(__func__) ? FAILED : 0;
}

OUT int cudnnGetConvolutionForwardWorkspaceSize(void *handle, void *x, void *w, void *convolution, void *y, int algorithm, size_t *bytes) {
    *bytes = 0;
    return 0;
}

OUT int cudnnDropoutGetStatesSize(void *handle, size_t *bytes) {
    *bytes = 0;
    return 0;
}

OUT int cudnnBackendCreateDescriptor(int type, void **descriptor) {
    int *made = calloc(1, DESCRIPTOR);
    if (!made) return 2;
    *made = type;
    *descriptor = made;
    return 0;
}

OUT int cudnnBackendDestroyDescriptor(void *descriptor) {
    free(descriptor);
    return 0;
}

OUT int cudnnBackendSetAttribute(void *descriptor, int attribute, int type, long count, const void *values) { return 0; }
OUT int cudnnBackendFinalize(void *descriptor) { return 0; }

OUT int cudnnBackendExecute(void *handle, void *plan, void *pointers) {
    event("cudnn execute");
    return fault(__func__) ? FAILED : 0;
}

// Attributes of cudnnBackendAttributeName_t that ONNX Runtime reads; all others are empty lists.
enum {
    HEURISTIC_RESULTS = 202,
    ENGINE_CONFIG = 300,
    ENGINE_INTERMEDIATES = 303,
    ENGINE_WORKSPACE = 304,
    PLAN_WORKSPACE = 402,
    PLAN_JSON = 405,
    OPERATION_ENGINES = 802,
    ENGINE_GLOBAL_INDEX = 1301,
};

OUT int cudnnBackendGetAttribute(void *descriptor, int attribute, int type, long room, long *found, void *values) {
    long count = 0, number = attribute == OPERATION_ENGINES;
    switch (attribute) {
    case HEURISTIC_RESULTS:
    case ENGINE_CONFIG: count = 1; break;
    case ENGINE_INTERMEDIATES:
    case ENGINE_WORKSPACE:
    case PLAN_WORKSPACE:
    case OPERATION_ENGINES:
    case ENGINE_GLOBAL_INDEX:
        count = 1;
        if (values && room) memcpy(values, &number, sizeof number);
        break;
    case PLAN_JSON:
        count = 3;
        if (values && room) strcpy(values, "{}");
        break;
    }
    if (found) *found = count;
    return 0;
}
