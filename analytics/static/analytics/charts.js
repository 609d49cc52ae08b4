/* The page of charts: asks for the figures every few seconds while it is seen, and draws them with Chart.js. */
"use strict";

(() => {
    const EVERY_MS = 5_000;
    const PATIENCE_MS = 15_000;
    const BAR_PX = 26;
    const AXIS_PX = 40;

    const page = document.getElementById("content-main");
    const updated = document.getElementById("updated");
    const trouble = document.getElementById("trouble");
    const charts = {};
    let range = page.dataset.range;
    let figures = null;
    let timer = null;
    let asking = null;

    // What is shown -------------------------------------------------------------------------------------------------

    const STEPS = { created: "Placed", reserved: "Reserved", completed: "Completed" };
    const REASONS = {
        OUT_OF_STOCK: "Out of stock",
        PAYMENT_FAILED: "Payment failed",
        CUSTOMER: "By the customer",
        TIMEOUT: "Timed out",
    };
    const SECONDS = {
        created_to_reserved: "Placed to reserved",
        reserved_to_completed: "Reserved to completed",
        created_to_completed: "Placed to completed",
        created_to_cancelled: "Placed to cancelled",
    };

    const count = new Intl.NumberFormat("en");
    const short = new Intl.NumberFormat("en", { notation: "compact" });
    const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
    const seconds = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
    const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", timeStyle: "medium" });
    const hour = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", timeStyle: "short" });
    const day = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });
    const money = (amount) => {
        const [whole, cents] = amount.split(".");
        return `${count.format(BigInt(whole))}.${cents}`;
    };
    const beginOf = (row) => (figures.bucket === "hour" ? hour : day).format(new Date(row.bucket));

    /* By the id of its section: the labels of a chart, its series, and the rows of its table. `across`: its bars lie;
       `whole`: it counts. */
    const VIEWS = {
        money: () => ({
            labels: figures.results.map(beginOf),
            series: [
                { label: "Revenue", values: figures.results.map((row) => row.revenue), colour: "--link-fg" },
                { label: "Refunds", values: figures.results.map((row) => row.refunds), colour: "--error-fg" },
            ],
            head: ["Begin", `Revenue, ${figures.currency}`, `Refunds, ${figures.currency}`],
            rows: figures.results.map((row) => [toldBegin(row), money(row.revenue), money(row.refunds)]),
        }),
        orders: () => ({
            whole: true,
            labels: figures.results.map(beginOf),
            series: [{ label: "Orders", values: figures.results.map((row) => row.orders), colour: "--secondary" }],
            head: ["Begin", "Orders", "Units"],
            rows: figures.results.map((row) => [toldBegin(row), count.format(row.orders), count.format(row.units)]),
        }),
        funnel: () => {
            const { created, cancelled } = figures.funnel;
            const steps = Object.entries(STEPS).map(([name, label]) => [label, figures.funnel[name], "--link-fg"]);
            const ends = Object.entries(REASONS).map(([name, label]) => [label, cancelled[name], "--error-fg"]);
            const bars = [...steps, ...ends];
            return {
                across: true,
                whole: true,
                labels: bars.map(([label]) => label),
                series: [
                    {
                        label: "Orders",
                        values: bars.map(([, number]) => number),
                        colours: bars.map(([, , colour]) => colour),
                    },
                ],
                head: ["Orders", "Number", "Share"],
                rows: bars.map(([label, number]) => [
                    label,
                    count.format(number),
                    created ? percent.format(number / created) : "–",
                ]),
            };
        },
        seconds: () => {
            const spans = Object.entries(SECONDS).map(([name, label]) => [label, figures.funnel.seconds[name]]);
            return {
                across: true,
                labels: spans.map(([label]) => label),
                series: [{ label: "Seconds", values: spans.map(([, mean]) => mean), colour: "--secondary" }],
                head: ["Between", "Seconds"],
                rows: spans.map(([label, mean]) => [label, mean === null ? "–" : seconds.format(mean)]),
            };
        },
        products: () => ({
            across: true,
            labels: figures.products.map((row) => row.sku),
            series: [{ label: "Revenue", values: figures.products.map((row) => row.revenue), colour: "--link-fg" }],
            head: ["SKU", "Units", `Revenue, ${figures.currency}`],
            rows: figures.products.map((row) => [row.sku, count.format(row.units), money(row.revenue)]),
        }),
        activity: () => ({
            across: true,
            whole: true,
            labels: figures.activity.map((row) => row.event_type),
            series: [{ label: "Events", values: figures.activity.map((row) => row.count), colour: "--body-quiet-color" }],
            head: ["Event", "Number"],
            rows: figures.activity.map((row) => [row.event_type, count.format(row.count)]),
        }),
    };

    const toldBegin = (row) => {
        const begin = new Date(row.bucket);
        return figures.bucket === "hour" ? `${day.format(begin)}, ${hour.format(begin)}` : day.format(begin);
    };

    // Drawing -------------------------------------------------------------------------------------------------------

    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

    function dataset({ label, values, colour: one, colours }) {
        return {
            label,
            data: values.map((value) => (value === null ? null : Number(value))),
            backgroundColor: colours ? colours.map(colour) : colour(one),
            borderRadius: 2,
            maxBarThickness: 40,
        };
    }

    function options({ across, whole, series }) {
        const quiet = colour("--body-quiet-color");
        const isEmpty = series.every(({ values }) => values.every((value) => !Number(value)));
        const numbers = {
            beginAtZero: true,
            suggestedMax: isEmpty ? 1 : undefined,
            grid: { color: colour("--hairline-color") },
            border: { display: false },
            ticks: {
                color: quiet,
                maxTicksLimit: 6,
                precision: whole ? 0 : undefined,
                callback: (value) => short.format(value),
            },
        };
        const names = {
            grid: { display: false },
            border: { color: colour("--border-color") },
            ticks: { color: quiet, autoSkip: !across, maxRotation: 0, autoSkipPadding: 12 },
        };
        return {
            animation: false,
            responsive: true,
            maintainAspectRatio: false,
            indexAxis: across ? "y" : "x",
            interaction: { mode: "index", axis: across ? "y" : "x", intersect: false },
            scales: across ? { x: numbers, y: names } : { x: names, y: numbers },
            plugins: { legend: { display: series.length > 1, labels: { color: colour("--body-fg"), boxWidth: 14 } } },
        };
    }

    function draw() {
        for (const [name, view] of Object.entries(VIEWS)) {
            const shown = view();
            const section = document.getElementById(name);
            const box = section.querySelector(".chart-canvas");
            if (shown.across) {
                box.style.height = `${Math.max(shown.labels.length, 2) * BAR_PX + AXIS_PX}px`;
            }
            charts[name] ??= new Chart(box.querySelector("canvas"), { type: "bar", data: {} });
            charts[name].data.labels = shown.labels;
            // Those that are there are kept, so that what a person has hidden stays hidden.
            charts[name].data.datasets = shown.series.map((one, place) =>
                Object.assign(charts[name].data.datasets[place] ?? {}, dataset(one)),
            );
            charts[name].options = options(shown);
            charts[name].update();
            write(section.querySelector("table"), shown.head, shown.rows);
        }
        document.getElementById("total-revenue").textContent = money(figures.totals.revenue);
        document.getElementById("total-refunds").textContent = money(figures.totals.refunds);
        document.getElementById("total-orders").textContent = count.format(figures.totals.orders);
        document.getElementById("total-units").textContent = count.format(figures.totals.units);
    }

    function write(table, head, rows) {
        const row = (cells, element) => {
            const line = document.createElement("tr");
            line.append(
                ...cells.map((text, place) => {
                    const cell = document.createElement(place ? element : "th");
                    cell.scope = element === "th" ? "col" : "row";
                    cell.textContent = text;
                    return cell;
                }),
            );
            return line;
        };
        table.tHead.replaceChildren(row(head, "th"));
        table.tBodies[0].replaceChildren(...rows.map((cells) => row(cells, "td")));
    }

    // Following -----------------------------------------------------------------------------------------------------

    async function ask(signal) {
        const url = `${page.dataset.figures}?range=${range}`;
        const answer = await fetch(url, { signal, redirect: "manual", headers: { Accept: "application/json" } });
        if (answer.type === "opaqueredirect") {
            throw new Error("you are no longer logged in; reload the page");
        }
        if (!answer.ok) {
            throw new Error(`the server answered ${answer.status}`);
        }
        return answer.json();
    }

    /* Ask now, and again and again while the page is seen. What was asked before is not waited for any more. */
    async function follow() {
        clearTimeout(timer);
        asking?.abort();
        asking = null;
        if (document.hidden) {
            return;
        }
        const mine = (asking = new AbortController());
        const patience = setTimeout(() => mine.abort(new Error("the server does not answer")), PATIENCE_MS);
        try {
            const answer = await ask(mine.signal);
            if (mine === asking) {
                figures = answer;
                draw();
                updated.textContent = `Updated at ${clock.format(new Date(figures.at))}.`;
                trouble.hidden = true;
            }
        } catch (error) {
            if (mine === asking) {
                const words = `The figures cannot be read: ${error.message}. What is shown may be old.`;
                // Written anew, it would be read aloud anew.
                if (trouble.hidden || trouble.textContent !== words) {
                    trouble.textContent = words;
                    trouble.hidden = false;
                }
            }
        } finally {
            clearTimeout(patience);
            if (mine === asking) {
                timer = setTimeout(follow, EVERY_MS);
            }
        }
    }

    page.querySelector(".charts-ranges").addEventListener("click", (event) => {
        const link = event.target.closest("a");
        if (!link || event.ctrlKey || event.metaKey || event.shiftKey) {
            return;
        }
        event.preventDefault();
        range = link.dataset.range;
        history.replaceState(null, "", link.href);
        for (const other of page.querySelectorAll(".charts-ranges a")) {
            other.removeAttribute("aria-current");
        }
        link.setAttribute("aria-current", "true");
        for (const file of page.querySelectorAll(".charts-files a")) {
            file.search = `?range=${range}`;
        }
        follow();
    });

    // The theme is chosen in the page, or by the system.
    const redraw = () => figures && draw();
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    document.addEventListener("visibilitychange", follow);
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    follow();
})();
