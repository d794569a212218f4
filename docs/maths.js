// Typesets the formulas of a page. KaTeX is loaded only where there are some.
const here = new URL(".", document.currentScript.src);

function add(element, address) {
  return new Promise((loaded) => {
    const tag = document.createElement(element);
    tag.onload = loaded;
    Object.assign(tag, address);
    document.head.append(tag);
  });
}

async function typeset() {
  const formulas = document.querySelectorAll(".arithmatex");
  if (formulas.length === 0) return;
  await Promise.all([
    add("link", { rel: "stylesheet", href: new URL("katex/katex.min.css", here) }),
    add("script", { src: new URL("katex/katex.min.js", here) }),
  ]);
  for (const formula of formulas) {
    const source = formula.textContent.trim().slice(2, -2); // between \( and \), or \[ and \]
    const displayMode = formula.tagName === "DIV";
    katex.render(source, formula, { displayMode, throwOnError: true });
    if (displayMode) formula.tabIndex = 0; // wide ones scroll, by the keyboard too
  }
}

document.addEventListener("DOMContentLoaded", typeset);
