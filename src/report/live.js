// Follows the program that serves this page: fetches the page again when it has changed, and replaces what differs.
"use strict";
(() => {
  const RETRY_MILLISECONDS = 2000;
  const TIMEOUT_MILLISECONDS = 60000; // longer than the program waits for a change
  let version = document.getElementById("live").dataset.version;
  let served = null; // <main> as the program sent it. Scripts of the page may have changed the <main> that is shown.

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
    const copy = document.createDocumentFragment();
    copy.append(document.importNode(after, true));
    for (const script of copy.querySelectorAll("script")) { // an imported script would not run
      const started = document.createElement("script");
      [...script.attributes].forEach((attribute) => started.setAttribute(attribute.name, attribute.value));
      started.textContent = script.textContent;
      script.replaceWith(started);
    }
    shown.replaceWith(copy);
  }

  async function answerTo(address) {
    const answer = await fetch(address, {cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS)});
    if (!answer.ok) {
      throw new Error(answer.status);
    }
    return answer;
  }

  async function refresh() {
    const page = new DOMParser().parseFromString(await (await answerTo("./")).text(), "text/html");
    const state = page.getElementById("live");
    const main = page.querySelector("main");
    if (served !== null) {
      replaceDifferences(document.querySelector("main"), served, main);
      document.dispatchEvent(new Event("pagechange")); // other scripts of the page may read their data again
    } else if (state.dataset.version !== version) { // the first request: the page has changed since it was loaded
      location.reload();
    }
    document.title = page.title;
    served = main;
    version = state.dataset.version;
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
        if (served === null) {
          await refresh();
        }
        const change = await (await answerTo(`changes?after=${version}`)).json();
        if (String(change.version) !== version) {
          await refresh();
        }
        say("");
      } catch {
        if (!document.getElementById("live").classList.contains("alone")) {
          say(`No answer since ${new Date().toLocaleTimeString()}: dtrain-report has ended, or the connection is ` +
              "lost. This page keeps what it has.");
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
      }
    }
  }

  follow();
})();
