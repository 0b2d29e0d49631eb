// The fastest plain price-time book we can write, as the limit of what one core can do. It knows limit orders, market
// orders and cancels, stores every fill, and checks nothing.
//
//   c++ -O3 -march=native -std=c++20 reference_book.cpp -o reference_book
//   reference_book TAPE          TAPE: int32 rows of kind (0 limit, 1 cancel, 2 market), side, price, quantity, order
//
// Each line on standard input is one pass over the tape by a new book. It answers with the seconds of the pass alone and
// what it came to: volume, trades, orders live, best bid, best ask. A line that is not empty names a file into which the
// fills go afterwards (int32 rows of maker, taker, price, quantity).
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

using i32 = std::int32_t;
constexpr i32 none = -1, n_ticks = 32768;
enum Kind : i32 { limit_order, cancel_order, market_order };

struct Message { i32 kind, side, price, quantity, order; };
struct Fill { i32 maker, taker, price, quantity; };

class Book {
    struct Resting { i32 quantity, price, after, before, order; };
    struct Queue { i32 first = none, last = none; };

    std::vector<Queue> queues{n_ticks};  // both sides: a price holds bids or asks, never both
    std::vector<Resting> pool;           // unused records are chained by `after`, last freed first
    std::vector<i32> where;              // record of an order by its id
    i32 unused = 0;
    Fill* fills;

    void free_record(i32 at) {
        where[pool[at].order] = none;
        pool[at].after = unused;
        unused = at;
        --live;
    }

    void fall() { while (best_bid >= 0 && queues[best_bid].first == none) --best_bid; }
    void rise() { while (best_ask < n_ticks && queues[best_ask].first == none) ++best_ask; }

    // Oldest first; what is left of `quantity` comes back.
    i32 trade_at(i32 price, i32 quantity, i32 taker) {
        Queue& queue = queues[price];
        i32 at = queue.first;
        while (quantity > 0 && at != none) {
            Resting& maker = pool[at];
            const i32 lots = std::min(quantity, maker.quantity);
            quantity -= lots;
            volume += lots;
            fills[trades++] = {maker.order, taker, price, lots};
            if (lots < maker.quantity) {
                maker.quantity -= lots;
                break;
            }
            const i32 after = maker.after;
            free_record(at);
            at = after;
            if (at != none) pool[at].before = none;
        }
        queue.first = at;
        if (at == none) queue.last = none;
        return quantity;
    }

    i32 take(i32 side, i32 limit, i32 quantity, i32 taker) {
        if (side == 0)
            while (quantity > 0 && best_ask <= limit) quantity = trade_at(best_ask, quantity, taker), rise();
        else
            while (quantity > 0 && best_bid >= limit) quantity = trade_at(best_bid, quantity, taker), fall();
        return quantity;
    }

  public:
    std::int64_t volume = 0, trades = 0, live = 0;
    i32 best_bid = none, best_ask = n_ticks;

    Book(i32 orders, Fill* fills_out) : pool(orders + 1), where(orders + 1, none), fills(fills_out) {
        for (i32 at = 0; at <= orders; ++at) pool[at].after = at + 1;
    }

    void limit(const Message& m) {
        const i32 left = take(m.side, m.price, m.quantity, m.order);
        if (left == 0) return;
        const i32 at = unused;
        Queue& queue = queues[m.price];
        unused = pool[at].after;
        pool[at] = {left, m.price, none, queue.last, m.order};
        where[m.order] = at;
        if (queue.last != none) {
            pool[queue.last].after = at;
        } else {
            queue.first = at;
            if (m.side == 0) best_bid = std::max(best_bid, m.price);
            else best_ask = std::min(best_ask, m.price);
        }
        queue.last = at;
        ++live;
    }

    void market(const Message& m) { take(m.side, m.side == 0 ? n_ticks - 1 : 0, m.quantity, m.order); }

    void cancel(const Message& m) {
        const i32 at = where[m.order];
        if (at == none) return;
        const Resting& gone = pool[at];
        Queue& queue = queues[gone.price];
        (gone.before != none ? pool[gone.before].after : queue.first) = gone.after;
        (gone.after != none ? pool[gone.after].before : queue.last) = gone.before;
        const i32 price = gone.price;
        free_record(at);
        if (queue.first != none) return;
        if (price == best_bid) fall();
        else if (price == best_ask) rise();
    }
};

int main(int count, char** arguments) {
    if (count != 2) return std::fputs("usage: reference_book TAPE\n", stderr), 2;
    std::ifstream file(arguments[1], std::ios::binary | std::ios::ate);
    if (!file) return std::perror(arguments[1]), 2;
    std::vector<Message> tape(file.tellg() / sizeof(Message));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(tape.data()), tape.size() * sizeof(Message));
    std::vector<Fill> fills(2 * tape.size());

    for (std::string line; std::getline(std::cin, line);) {
        Book book(static_cast<i32>(tape.size()), fills.data());
        const auto start = std::chrono::steady_clock::now();
        for (const Message& m : tape) {
            if (m.kind == cancel_order) book.cancel(m);
            else if (m.kind == limit_order) book.limit(m);
            else book.market(m);
        }
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        if (!line.empty())
            std::ofstream(line, std::ios::binary).write(reinterpret_cast<char*>(fills.data()), book.trades * sizeof(Fill));
        std::printf("%.9f %lld %lld %lld %d %d\n", seconds.count(), static_cast<long long>(book.volume),
                    static_cast<long long>(book.trades), static_cast<long long>(book.live), book.best_bid, book.best_ask);
        std::fflush(stdout);
    }
}
