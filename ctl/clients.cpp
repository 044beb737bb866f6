// mempoolctl clients: who is attached to a pool, and what each has.
#include <mempool/inspect.hpp>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "table.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

using mempool::ClientInfo;

Json to_json(const ClientInfo& client) {
    return {{"id", client.id},
            {"pid", client.pid},
            {"uid", client.uid},
            {"user", user_name(client.uid)},
            {"command", client.command},
            {"state", client.state},
            {"epoch", client.epoch},
            {"attached_at", client.attached_at},
            {"age_seconds", age_of(client.attached_at)},
            {"lanes", client.lanes},
            {"held", client.held},
            {"cached", client.cached},
            {"quota", client.quota}};
}

Colour colour_of_client(std::string_view state) {
    if (state == "active") {
        return Colour::kGreen;
    }
    return state == "leaving" || state == "unseen" ? Colour::kYellow : Colour::kRed;
}

bool over_quota(const ClientInfo& client) {
    return client.quota != 0 && client.held > client.quota;
}

Exit run_clients(const Invocation& invocation, Output& output) {
    const std::string& pool = invocation.arguments.front();
    const mempool::Inspector inspector = mempool::Inspector::open(pool, invocation.attach);
    const std::vector<ClientInfo> clients = inspector.clients();
    const bool served = note_whether_served(invocation, inspector);
    if (invocation.json) {
        Json list = Json::array();
        for (const ClientInfo& client : clients) {
            list.push_back(to_json(client));
        }
        output.json({{"pool", pool}, {"served", served}, {"clients", std::move(list)}});
        return Exit::kOk;
    }
    const Align right = Align::kRight;
    Table table({{"CLIENT", right},
                 {"PID", right},
                 {"USER"},
                 {"COMMAND"},
                 {"STATE"},
                 {"AGE", right},
                 {"LANES", right},
                 {"HELD", right},
                 {"QUOTA", right},
                 {"CACHED", right},
                 {"SINCE"}});
    for (const ClientInfo& client : clients) {
        table.add({{std::to_string(client.id)},
                   {std::to_string(client.pid)},
                   {printable(user_name(client.uid))},
                   {printable(client.command)},
                   {client.state, colour_of_client(client.state)},
                   {format_duration(age_of(client.attached_at))},
                   {std::to_string(client.lanes)},
                   {std::to_string(client.held), over_quota(client) ? Colour::kRed : Colour::kNone},
                   {client.quota == 0 ? "-" : std::to_string(client.quota)},
                   {std::to_string(client.cached)},
                   {format_time(client.attached_at)}});
    }
    output.text(table.render(output.colour()));
    return Exit::kOk;
}

}  // namespace

const Command kClients{
    .name = "clients",
    .arguments = "POOL",
    .summary = "List a pool's clients and what each has",
    .details =
        "Pids are as the daemon sees them; 0: it has none there. STATE unseen: the daemon\n"
        "cannot see the process (another pid namespace), so it counts as alive. ended: an\n"
        "operator ended it, and its process may live. See mempoolctl reclaim --client.",
    .least_arguments = 1,
    .most_arguments = 1,
    .add_options = nullptr,
    .run = run_clients,
};

}  // namespace mempoolctl
