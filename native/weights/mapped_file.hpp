// A read-only mapping of a whole file; pages are read when they are touched.
#pragma once
#include <cstddef>
#include <string>

namespace chorus {

class MappedFile {
  public:
    explicit MappedFile(const std::string & path);
    ~MappedFile();
    MappedFile(const MappedFile &) = delete;
    MappedFile & operator=(const MappedFile &) = delete;

    char * data() const { return data_; }
    size_t size() const { return size_; }
    bool holds(const char * address) const { return address >= data_ && address < data_ + size_; }

    // These bytes are not needed again: the system may have their memory back.
    void forget(const char * from, size_t bytes) const;

  private:
    char * data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace chorus
