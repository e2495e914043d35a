// Code that runs in a child process of its own with a small tmpfs, or a read-only one, mounted for it alone.
#pragma once

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>

/// In the child: throws with `what` unless `holds`.
inline void expect(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

/// Runs `work` in a child, whose limits, user and threads are its own. Returns what went wrong, empty if nothing.
template <class F>
std::string in_own_process(F work) {
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0) return "unavailable: pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    std::string said;
    try {
      work();
    } catch (const std::exception& e) {
      said = e.what();
      if (said.empty()) said = "an exception without a message";
    }
    (void)!::write(pipe_ends[1], said.data(), said.size());
    ::_exit(0);
  }
  ::close(pipe_ends[1]);
  std::string said;
  char buffer[4096];
  for (ssize_t got; (got = ::read(pipe_ends[0], buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(got));
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return std::string("killed by ") + ::strsignal(WTERMSIG(status));
  return said;
}

/// The same in a mount namespace of its own, so that nothing it mounts is seen or left anywhere.
/// "unavailable: ..." where this machine allows no mounting.
template <class F>
std::string in_own_mounts(F work) {
  return in_own_process([&] {
    // As root a mount namespace is enough; others may have one within a user namespace.
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0)
      throw std::runtime_error(std::string("unavailable: unshare: ") + std::strerror(errno));
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 && errno != EINVAL)
      throw std::runtime_error(std::string("unavailable: mount: ") + std::strerror(errno));
    work();
  });
}

inline void mount_tmpfs(const std::filesystem::path& at, const std::string& options, unsigned long flags = 0) {
  if (::mount("tmpfs", at.c_str(), "tmpfs", flags, options.c_str()) != 0)
    throw std::runtime_error(std::string("unavailable: mounting a tmpfs: ") + std::strerror(errno));
}

/// Runs a command and throws "unavailable: ..." where it fails.
inline void require_command(const std::string& command) {
  if (std::system((command + " >/dev/null 2>&1").c_str()) != 0) throw std::runtime_error("unavailable: " + command);
}

/// A real ext4 of `size` (as truncate(1) takes it), in a file beside the directory it is mounted at.
inline void mount_ext4(const std::filesystem::path& at, const std::filesystem::path& image, const std::string& size,
                       const std::string& how_made = "") {
  require_command("truncate -s " + size + " '" + image.string() + "'");
  require_command("mkfs.ext4 -q -F -m 0 -N 32 -b 4096 " + how_made + " '" + image.string() + "'");
  require_command("mount -o loop '" + image.string() + "' '" + at.string() + "'");
}
