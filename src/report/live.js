// Follows the program that serves this page: fetches the page again when it has changed, and replaces what differs.
"use strict";
(() => {
  const RETRY_MILLISECONDS = 2000;
  const TIMEOUT_MILLISECONDS = 60000; // longer than the program waits for a change
  let {version, network} = document.getElementById("live").dataset;
  // <main> as the program sent it. The scripts after this one change the <main> that is shown.
  let served = document.querySelector("main").cloneNode(true);
  let isLost = false;

  function haveEqualTags(a, b) {
    return a.nodeName === b.nodeName && a.attributes.length === b.attributes.length &&
      [...a.attributes].every((attribute) => b.getAttribute(attribute.name) === attribute.value);
  }

  function textBetweenChildren(element) {
    return [...element.childNodes].map((node) => node.nodeType === Node.TEXT_NODE ? node.data.trim() : "").join("");
  }

  // Replaces the smallest parts that differ, so that the position and what the reader opened elsewhere stay.
  function replaceDifferences(shown, before, after) {
    if (before.isEqualNode(after)) {
      return;
    }
    const children = [...shown.children];
    if (haveEqualTags(before, after) && before.nodeName !== "svg" && children.length > 0 &&
        children.length === before.children.length && children.length === after.children.length &&
        textBetweenChildren(before) === textBetweenChildren(after)) {
      children.forEach((child, i) => replaceDifferences(child, before.children[i], after.children[i]));
      return;
    }
    shown.replaceWith(document.importNode(after, true));
  }

  async function answerTo(address) {
    const answer = await fetch(address, {cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS)});
    if (!answer.ok) {
      throw new Error(answer.status);
    }
    return answer;
  }

  async function refresh() {
    const page = new DOMParser().parseFromString(await (await answerTo(`./?network=${network}`)).text(), "text/html");
    const main = page.querySelector("main");
    const data = page.getElementById("network-data");
    if (data?.textContent === "") { // the program leaves out the data that this page has
      data.textContent = served.querySelector("#network-data").textContent;
    }
    replaceDifferences(document.querySelector("main"), served, main);
    document.dispatchEvent(new Event("pagechange")); // other scripts of the page may read their data again
    document.title = page.title;
    served = main;
    ({version, network} = page.getElementById("live").dataset);
  }

  function say(text) {
    document.getElementById("live-connection").textContent = text;
    document.getElementById("live").classList.toggle("alone", text !== "");
  }

  function whenVisible() { // nobody looks at a hidden page, so the program need not draw it
    return new Promise((resolve) => {
      const check = () => {
        if (!document.hidden) {
          document.removeEventListener("visibilitychange", check);
          resolve();
        }
      };
      document.addEventListener("visibilitychange", check);
      check();
    });
  }

  async function follow() {
    for (;;) {
      await whenVisible();
      try {
        const change = await (await answerTo(`changes?after=${version}`)).json();
        if (String(change.version) !== version) {
          await refresh();
        }
        say(change.problem);
        isLost = false;
      } catch {
        if (!isLost) {
          isLost = true;
          say(`No answer since ${new Date().toLocaleTimeString()}: dtrain-report has ended, or the connection is ` +
              "lost. This page keeps what it has.");
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
      }
    }
  }

  follow();
})();
