#include "client_impl.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <new>
#include <utility>

#include "mempool/error.hpp"
#include "mempool/shm/words/names.hpp"
#include "no_cancellation.hpp"
#include "registry.hpp"

namespace mempool::detail {
namespace {

using std::chrono::milliseconds;

/// Longest wait for a segment from the daemon inside a get().
constexpr milliseconds kFetchTimeout{1000};

std::uint64_t next_serial() noexcept {
    // Not in wiped memory: a child's clients continue the count, so none matches inherited lanes.
    static constinit std::atomic<std::uint64_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

shm::Request goodbye(std::string_view pool, const shm::payload::Attachment& attachment) noexcept {
    return make_request(
        shm::RequestKind::kBye, pool,
        shm::payload::Bye{
            .token = attachment.token, .client = attachment.client, .key = attachment.key});
}

// What the daemon answers, or its successor: one that ends to be restarted closes the connections
// it has not answered, and where systemd keeps the socket the next one is there at once. One that
// was killed between its books and its answer has given this process a place that it keeps.
shm::Reply ask(Connection& link, const shm::Request& request, shm::UniqueFd* passed = nullptr) {
    try {
        return link.call(request, passed);
    } catch (const Error& unanswered) {
        if (unanswered.code() != std::errc::connection_reset) {
            throw;
        }
        try {
            return link.call(request, passed);
        } catch (const Error& again) {
            if (again.code() == std::errc::no_such_file_or_directory ||
                again.code() == std::errc::connection_refused) {
                throw unanswered;  // it has no successor, and its log says why
            }
            throw;
        }
    }
}

}  // namespace

HotPage::HotPage() {
    if (::madvise(this, sizeof(*this), MADV_WIPEONFORK) != 0) {
        throw Error(errno, std::generic_category(),
                    "the kernel lacks MADV_WIPEONFORK: Linux 4.14 or later is needed");
    }
}

HotPage::~HotPage() { ::madvise(this, sizeof(*this), MADV_KEEPONFORK); }

// Attaching and leaving.

std::unique_ptr<ClientImpl> ClientImpl::attach(std::string_view pool,
                                               const AttachOptions& options) {
    if (const std::string fault = shm::check_pool_name(pool); !fault.empty()) {
        throw Error(EINVAL, std::generic_category(), fault);
    }
    const NoCancellation guard;
    Registry::instance();  // makes it: from here on only what the daemon must hear of can fail
    Connection link(options);
    shm::payload::Attachment attachment;
    std::unique_ptr<ClientImpl> client;
    try {
        shm::UniqueFd fd;
        attachment = shm::payload::of<shm::payload::Attachment>(
            ask(link, make_request(shm::RequestKind::kAttach, pool), &fd));
        if (!fd) {
            throw Error(EPROTO, std::generic_category(),
                        "mempoold at " + link.path() + " passed no memory: see its log");
        }
        PoolIdentity identity = read_identity(fd.get(), pool);
        if (attachment.client == 0 || attachment.client >= identity.geometry.shape.client_count) {
            throw Error(EPROTO, std::generic_category(),
                        "mempoold at " + link.path() + " gave a client number out of range");
        }
        Mapping mapping(fd.get(), std::move(identity));
        client = std::make_unique<ClientImpl>(std::move(link), std::move(mapping), attachment);
    } catch (const DescriptorLost& e) {
        link.notify(goodbye(pool, shm::payload::of<shm::payload::Attachment>(e.reply())));
        throw;
    } catch (...) {
        // Without it the daemon would keep the client's place as long as this process lives.
        if (attachment.client != 0) {
            link.notify(goodbye(pool, attachment));
        }
        throw;
    }
    client->confirm_attached();
    return client;
}

// The last step that can throw comes before `link` is moved: see the last catch in attach().
ClientImpl::ClientImpl(Connection&& link, Mapping&& mapping,
                       const shm::payload::Attachment& attachment)
    : attachment_(attachment),
      id_{static_cast<std::uint32_t>(attachment.client)},
      mapping_(std::move(mapping)),
      pool_name_(mapping_->identity().name),
      pool_(mapping_->pool()),
      link_(std::move(link)),
      quota_(pool_, id_) {
    link_.greet_with(make_request(shm::RequestKind::kResume, pool_name(), attachment_));
    pool_.lane(shm::LaneId{raw(id_)})
        .mapped_at.store(
            reinterpret_cast<std::uintptr_t>(pool_.base()) | (epoch() & (shm::kPage - 1)),
            std::memory_order_relaxed);
    stride = pool_.geometry().slot_stride;
    before_slots = reinterpret_cast<std::uintptr_t>(pool_.slot(shm::SlotIndex{0})) - stride;
    slot_size = mapping_->identity().geometry.shape.slot_size;
    mapping_->extend([this](std::uint32_t number) { return fetch_segment(number); });
    hot.limit.store(mapping_->limit(), std::memory_order_release);
}

// Until the pool was mapped, a daemon that was started again meanwhile took this process for one
// that is done with it. From here on it sees the mapping; that it still knows the client, it says
// now: where the connection was lost, the new one begins with a kResume, which must be granted.
// What is asked after that does not matter.
void ClientImpl::confirm_attached() {
    try {
        ask(link_, make_request(shm::RequestKind::kStatus, ""));
    } catch (const Error& e) {
        note_refusal(e);
        throw;
    }
    link_.limit_waits(kFetchTimeout);
    hot.serial.store(next_serial(), std::memory_order_release);
    Registry::instance().add(*this);
}

ClientImpl::~ClientImpl() {
    if (mapping_) {
        end_attachment();
    }
    ThreadLane* lane = lanes_.load(std::memory_order_relaxed);
    while (lane != nullptr) {
        delete std::exchange(lane, lane->next);
    }
}

void ClientImpl::leave() noexcept {
    const NoCancellation guard;
    if (forked()) {
        // All that is mapped and open here is this process's own; what it says is the parent's.
        mapping_.reset();
        link_.disconnect();
        bury(this);
        return;
    }
    close();
    stays_.fetch_or(kLeft, std::memory_order_acq_rel);
    {
        const std::lock_guard home(home_mutex_);
        if (home_) {
            const std::lock_guard lanes(lanes_mutex_);
            close(*home_);
            home_.reset();
        }
    }
    give_back_lane(serial());
    end_stay();
}

// No index is below the limit then, so every get takes the slow way and finds `closed_`.
void ClientImpl::close() noexcept {
    if (forked() || !begin_stay()) {
        return;
    }
    {
        const std::lock_guard guard(mapping_mutex_);
        closed_.store(true, std::memory_order_seq_cst);
        hot.limit.store(0, std::memory_order_release);
        std::atomic<std::uint32_t>& sequence = pool_.live().wake_sequence;
        if (!ended()) {
            sequence.fetch_add(1, std::memory_order_seq_cst);
        }
        // Strangers too: they look, and sleep again.
        shm::futex_wake(sequence, ~std::uint64_t{0});
    }
    end_stay();
}

bool ClientImpl::begin_stay() noexcept {
    std::uint32_t seen = stays_.load(std::memory_order_relaxed);
    do {
        if ((seen & kLeft) != 0) {
            return false;
        }
    } while (!stays_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel,
                                           std::memory_order_relaxed));
    return true;
}

void ClientImpl::end_stay() noexcept {
    if (stays_.fetch_sub(1, std::memory_order_acq_rel) == (kLeft | 1U)) {
        Registry::instance().remove(*this);
        end_attachment();
        bury(this);
    }
}

// A goodbye is a promise about memory: nothing of the pool is mapped when it is said. The token in
// the home lane's record proves that a LEAVING was this client's own, to a daemon that is down now.
// Of a client that was ended these records may be somebody else's by now.
void ClientImpl::end_attachment() noexcept {
    const NoCancellation guard;
    if (!ended()) {
        pool_.lane(shm::LaneId{raw(id_)})
            .farewell.store(attachment_.token, std::memory_order_relaxed);
        pool_.client(id_).state.store(shm::ClientState::kLeaving, std::memory_order_release);
    }
    mapping_.reset();
    link_.notify(goodbye(pool_name_, attachment_));
    link_.disconnect();
}

// A thread may still call through a Client that was destroyed at exit, and a ~Slot may come after
// its Client: mistakes, but in a program that is about to end. They find a closed client in the
// place of the last few that went. (Not in wiped memory: a child has its parent's.)
void ClientImpl::bury(ClientImpl* client) noexcept {
    static constinit std::array<std::atomic<ClientImpl*>, 32> graves{};
    static constinit std::atomic<std::size_t> next{0};
    const std::size_t grave = next.fetch_add(1, std::memory_order_relaxed) % graves.size();
    delete graves[grave].exchange(client, std::memory_order_acq_rel);
}

// Lanes.

ThreadLane* ClientImpl::claim_lane() noexcept {
    if (!begin_stay()) {
        return nullptr;
    }
    const std::uint32_t first = pool_.geometry().shape.client_count;
    const std::uint32_t lanes = pool_.geometry().lane_count - first;
    // Each client begins at a place of its own, so that they seldom meet.
    const std::uint32_t start = raw(id_) * (shm::kLanesPerClient - 1) % lanes;
    for (std::uint32_t k = 0; k < lanes && !ended(); ++k) {
        const shm::LaneId id{first + (start + k) % lanes};
        if (shm::try_claim_lane(pool_, id, id_)) {
            if (ThreadLane* lane = equip(id); lane != nullptr) {
                return lane;
            }
            break;
        }
    }
    end_stay();
    return nullptr;
}

ThreadLane* ClientImpl::equip(shm::LaneId id) noexcept {
    shm::Lane lane(pool_, id, id_, epoch());
    if (lane.open()) {
        if (ThreadLane* kept = keep(lane); kept != nullptr) {
            return kept;
        }
        lane.close();
    }
    if (!lane.is_ended()) {
        shm::free_lane(pool_, id);
    }
    return nullptr;
}

ThreadLane* ClientImpl::keep(const shm::Lane& lane) noexcept {
    const std::lock_guard guard(lanes_mutex_);
    ThreadLane* head = lanes_.load(std::memory_order_relaxed);
    for (ThreadLane* old = head; old != nullptr; old = old->next) {
        if (!old->used) {
            old->lane = lane;
            old->used = true;
            return old;
        }
    }
    auto* fresh = new (std::nothrow) ThreadLane(lane);
    if (fresh != nullptr) {
        fresh->used = true;
        fresh->next = head;
        lanes_.store(fresh, std::memory_order_release);
    }
    return fresh;
}

void ClientImpl::retire(ThreadLane& lane) noexcept {
    {
        const std::lock_guard guard(lanes_mutex_);
        close(lane);
    }
    end_stay();
}

// The lanes of a client that was ended are not its own any more: the daemon deals with them.
void ClientImpl::close(ThreadLane& lane) noexcept {
    if (!ended() && lane.lane.close()) {
        shm::free_lane(pool_, lane.lane.id());
    }
    lane.used = false;
}

Errc ClientImpl::open_home() noexcept {
    if (home_) {
        return kNone;
    }
    if (has_left()) {
        return Errc::kClosed;
    }
    if (ended()) {
        return Errc::kEnded;
    }
    const shm::LaneId id{raw(id_)};
    const shm::LaneWord word{pool_.lane(id).word.load(std::memory_order_acquire)};
    const bool ours = word.state() == shm::LaneState::kOwned && word.client() == id_;
    if (!ours && !shm::try_claim_lane(pool_, id, id_)) {
        return Errc::kPoolDamaged;
    }
    shm::Lane lane(pool_, id, id_, epoch());
    if (!lane.open()) {
        return lane.is_ended() ? Errc::kEnded : Errc::kPoolDamaged;
    }
    home_.reset(new (std::nothrow) ThreadLane(lane));
    if (!home_) {
        lane.close();
        return Errc::kPoolDamaged;
    }
    return kNone;
}

}  // namespace mempool::detail
