// libcublasLt: every description is accepted, and one algorithm is offered for each product.
#include "stand_in.h"
#include <stdlib.h>
#include <string.h>

// No description of cuBLASLt is larger.
enum { DESCRIPTION = 1024, ALGORITHM_RESULT = 96 };

static int make(void **description) {
    *description = calloc(1, DESCRIPTION);
    return *description ? 0 : 3;
}

OUT int cublasLtCreate(void **handle) { return make(handle); }
OUT int cublasLtMatmulDescCreate(void **description, int compute, int scale) { return make(description); }
OUT int cublasLtMatmulPreferenceCreate(void **description) { return make(description); }
OUT int cublasLtMatrixLayoutCreate(void **description, int type, unsigned long rows, unsigned long columns, long leading) {
    return make(description);
}
OUT int cublasLtMatrixTransformDescCreate(void **description, int type) { return make(description); }

OUT int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c, void *d, void *preference, int wanted,
                                       void *results, int *found) {
    memset(results, 0, ALGORITHM_RESULT);
    *found = 1;
    return 0;
}

OUT int cublasLtMatmul(void *handle) {
    event("gemm lt");
    return fault(__func__) ? 13 : 0;
}
