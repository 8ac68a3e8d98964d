"use strict";
(() => {
  const dialog = document.getElementById("zoom");
  if (!dialog || !dialog.showModal) return;
  const large = dialog.querySelector("img");
  const [title, group, place] = ["title", "group", "place"].map((name) => document.getElementById(`zoom-${name}`));
  const buttons = [...document.querySelectorAll(".frame")].filter((frame) => frame.querySelector("img")).map(asButton);
  let current = 0;

  function asButton(frame) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "frame";
    Object.assign(button.dataset, frame.dataset);
    button.append(...frame.childNodes);
    button.setAttribute("aria-haspopup", "dialog");
    frame.replaceWith(button);
    return button;
  }

  function show(index) {
    current = (index + buttons.length) % buttons.length;
    const button = buttons[current];
    const small = button.querySelector("img");
    large.src = small.src;
    large.alt = small.alt;
    large.width = small.naturalWidth;
    large.height = small.naturalHeight;
    large.hidden = false;
    title.textContent = button.dataset.title;
    group.textContent = button.dataset.group;
    place.textContent = `${current + 1} of ${buttons.length}`;
  }

  buttons.forEach((button, index) =>
    button.addEventListener("click", () => {
      show(index);
      dialog.showModal();
    })
  );
  document.getElementById("zoom-back").addEventListener("click", () => show(current - 1));
  document.getElementById("zoom-on").addEventListener("click", () => show(current + 1));
  dialog.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    show(current + move);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => buttons[current].focus());
})();
