#include "weights/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace chorus {

MappedFile::MappedFile(const std::string & path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe without a writer would wait for one
    if (fd < 0) throw std::runtime_error(path + ": " + std::strerror(errno));
    struct stat status {};
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
        close(fd);
        throw std::runtime_error(path + ": is no file, or is empty");
    }
    size_ = size_t(status.st_size);
    // Shared, so that ranks on one machine have the weights in memory once. ggml takes a plain pointer and does not write to it.
    void * address = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (address == MAP_FAILED) throw std::runtime_error(path + ": cannot be mapped: " + std::strerror(errno));
    data_ = static_cast<char *>(address);
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) munmap(data_, size_);
}

void MappedFile::forget(const char * from, size_t bytes) const {
    const auto page = uintptr_t(sysconf(_SC_PAGESIZE));
    const uintptr_t first = (reinterpret_cast<uintptr_t>(from) + page - 1) / page * page, last = (reinterpret_cast<uintptr_t>(from) + bytes) / page * page;
    if (first < last) madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
}

}  // namespace chorus
