// libcublas: matrix products are logged, never computed. m, n and k are cuBLAS's: column-major.
#include "stand_in.h"

enum { FAILED = 13 };

OUT int cublasCreate_v2(void **handle) {
    static int it;
    *handle = &it;
    return fault(__func__);
}

OUT int cublasGetMathMode(void *handle, int *mode) {
    *mode = 0;
    return 0;
}

OUT const char *cublasGetStatusName(int status) {
    return status ? "CUBLAS_STATUS_EXECUTION_FAILED" : "CUBLAS_STATUS_SUCCESS";
}

OUT const char *cublasGetStatusString(int status) {
    return status ? "the GPU program failed to execute" : "the operation completed successfully";
}

// Types are those of library_types.h: 0 f32, 2 f16, 14 bf16.
OUT int cublasGemmEx(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int a_type, int lda,
                     const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute, int algorithm) {
    event("gemm m %d n %d k %d batch 1 type %d", m, n, k, a_type);
    return fault(__func__) ? FAILED : 0;
}

OUT int cublasGemmStridedBatchedEx(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int a_type,
                                   int lda, long long stride_a, const void *b, int b_type, int ldb, long long stride_b, const void *beta,
                                   void *c, int c_type, int ldc, long long stride_c, int batch, int compute, int algorithm) {
    event("gemm m %d n %d k %d batch %d type %d", m, n, k, batch, a_type);
    return fault(__func__) ? FAILED : 0;
}
